//! Aliases files: what is read from them, and the positions of their errors.

use super::*;

#[test]
fn aliases_are_read() {
    let text = "# a comment\nSales: ann, bob@example.org , ann # and another\n\
                \"odd:name,\"@example.com: ann\n*: rest@gmail.com\n";
    let config = config(&[("domains/example.com/aliases", text)]);
    let served = config.receiving(&domain("example.com")).expect("served");
    let targets = |alias: &Alias| {
        alias
            .targets
            .iter()
            .filter_map(AliasTarget::mailbox)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        targets(&served.aliases["sales"]),
        ["ann@example.com", "bob@example.org"]
    );
    assert_eq!(targets(&served.aliases["odd:name,"]), ["ann@example.com"]);
    let rest = served.catch_all.as_ref().expect("a catch-all");
    assert_eq!(
        (targets(rest), rest.line),
        (vec!["rest@gmail.com".to_owned()], 4)
    );
}

#[test]
fn aliases_are_read_as_postfix_has_them() {
    let text = "\u{feff}ann: a@example.org,\nbob@EXAMPLE.com: b@example.org\n*@example.com: you@gmail.com\n\
                team: a@example.org, # one\n\t lmtp:/run/lmtp,\n  c@example.org\nkate: k@example.org\n  , l@example.org\n\
                 old: o@example.org\n";
    let config = config(&[("domains/example.com/aliases", text)]);
    let served = config.receiving(&domain("example.com")).expect("served");
    let count = |name: &str| served.aliases[name].targets.len();
    assert_eq!(
        ["ann", "bob", "team", "kate", "old"].map(count),
        [1, 1, 3, 2, 1]
    );
    assert_eq!(served.catch_all.as_ref().expect("a catch-all").line, 3);

    let cases = [
        (
            "*@example.net: a@example.org\n",
            "1:1: ",
            "write it into domains/example.net/aliases",
        ),
        (
            "x: \"|/bin/prog -x\"\n",
            "1:4: ",
            "write it outside of them",
        ),
        (
            "x: a@example.org,\n  /dev/null\n",
            "2:3: ",
            "chopar does not write mail to files",
        ),
        (
            "x: a@example.org,\n  b@example.org\n   , @\n",
            "3:6: ",
            "is no",
        ),
        ("x: ,\n", "1:4: ", "has no target"),
        (
            "x: a@example.org,, b@example.org\n",
            "1:18: ",
            "has no target",
        ),
    ];
    for (text, place, problem) in cases {
        let found = errors(&[("domains/example.com/aliases", text)]);
        let [error] = found.as_slice() else {
            panic!("{text:?}: {found:?}");
        };
        let place = format!("domains/example.com/aliases:{place}");
        assert!(
            error.starts_with(&place) && error.contains(problem),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn an_accent_is_the_same_however_it_was_typed() {
    let config = config(&[(
        "domains/example.com/aliases",
        "rene\u{301}: r@example.org\n\u{c4}rger: a@example.org\n",
    )]);
    let served = config.receiving(&domain("example.com")).expect("served");
    for address in [
        "ren\u{e9}@example.com",
        "rene\u{301}@example.com",
        "a\u{308}rger@example.com",
    ] {
        let mailbox = crate::address::Mailbox::parse(address).expect("an address");
        assert!(
            served
                .aliases
                .contains_key(&config.names.key(&mailbox.local_key())),
            "{address}"
        );
    }
}

#[test]
fn errors_of_aliases_have_their_position() {
    let file = "domains/example.com/aliases";
    let many: Vec<String> = (0..101).map(|number| format!("u{number}")).collect();
    let many = format!("all: {}", many.join(","));
    let last = many.rfind('u').expect("a name") + 1;
    let cases = [
        ("ann ann@example.org", "1:1: expected NAME: TARGET"),
        ("  a b: ann", "1:3: \"a b\" is not a name"),
        (
            "ann@example.org: x",
            "1:1: this is an address of another domain",
        ),
        ("ann:", "1:5: the alias has no target"),
        ("ann: bob,, carl", "1:10: the alias has no target"),
        ("ann: bob, c@@d", "1:11: \"c@@d\" is not a mail address"),
        ("ann: | bin/x", "1:6: expected the full path of a program"),
        ("ann: lmtp:run/x", "1:6: \"lmtp:run/x\" is not a target"),
        ("ann: maildir:m", "1:6: \"maildir:m\" is not a target"),
        (
            "ann: /var/mail/x",
            "1:6: chopar does not write mail to files",
        ),
        ("ann: :include:/x", "1:6: \":include:/x\" is not a target"),
        (
            "ann: x@[192.0.2.1]",
            "1:6: \"x@[192.0.2.1]\" is not a mail address",
        ),
        ("ann: b via ", "1:6: \"b via\" is not a target"),
        ("ann: b\nb: ann", "1:1: the alias leads back to itself"),
        ("ann: a\n\nANN: b", "3:1: \"ANN\" is already on line 1"),
        (
            "*: a@x.test\n*: b@x.test",
            "2:1: \"*\" is already on line 1",
        ),
        (
            many.as_str(),
            &format!("1:{last}: the alias has more than 100 targets"),
        ),
    ];
    for (text, expected) in cases {
        let found = errors(&[(file, text)]);
        assert!(
            found[0].starts_with(&format!("{file}:{expected}")),
            "{text:?}: {found:?}"
        );
    }
}
