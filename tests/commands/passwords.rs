//! Passwords of users, which commands read from a prompt or from standard input.

use std::process::Command;

use super::{chopar, folder};

#[test]
fn a_password_that_is_easy_to_guess_is_refused_without_a_flag() {
    let folder = folder();
    let path = folder.path();
    let users = path.join("domains/example.com/users");
    let add = ["user", "add", "app@example.com"];
    for (password, why) in [
        ("", "found nothing"),
        ("short", "has 5 characters"),
        ("password1", "that many have"),
        ("example.com", "own address"),
        ("12345678", "a row"),
    ] {
        let (code, _, error) = chopar(path, &add, &format!("{password}\n"));
        assert_eq!(code, 65, "{password}: {error}");
        assert!(error.contains(why), "{password}: {error}");
        assert!(!users.exists(), "{password}");
    }
    let (code, _, error) = chopar(
        path,
        &["user", "add", "--weak", "app@example.com"],
        "short\n",
    );
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = chopar(path, &["user", "passwd", "app@example.com"], "secret\n");
    assert_eq!(code, 65, "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
    let verify = ["user", "verify", "app@example.com"];
    assert_eq!(chopar(path, &verify, "short\n").0, 0);
    let empty = ["user", "passwd", "--weak", "app@example.com"];
    assert_eq!(chopar(path, &empty, "\n").0, 65);
    assert_eq!(
        chopar(
            path,
            &["user", "passwd", "--weak", "app@example.com"],
            "secret\n"
        )
        .0,
        0
    );
    assert_eq!(chopar(path, &verify, "secret\n").0, 0);
}

#[test]
fn a_script_without_a_password_is_told_how_to_give_one() {
    let folder = folder();
    let path = folder.path();
    let given = |words: &[&str]| {
        let (code, output, error) = chopar(path, words, "");
        assert_eq!((code, output.as_str()), (65, ""), "{error}");
        let (_, line) = error.split_once("first line: ").expect("an example");
        let line = line.replace("sudo chopar", "\"$0\" -C \"$1\"");
        let ended = Command::new("sh")
            .args(["-c", line.trim(), env!("CARGO_BIN_EXE_chopar")])
            .arg(path)
            .env("PASSWORD", "four words it takes")
            .output()
            .expect("a shell");
        assert!(ended.status.success(), "{line}: {ended:?}");
    };
    given(&["user", "add", "app@example.com"]);
    given(&["user", "passwd", "app@example.com"]);
    given(&["user", "verify", "app@example.com"]);
}

#[test]
fn a_password_is_read_from_a_pipe() {
    let folder = folder();
    let path = folder.path();
    let add = [
        "user",
        "add",
        "app@example.com",
        "--send-as",
        "*@example.com",
    ];
    let (code, _, error) = chopar(path, &add, "correct horse\n");
    assert_eq!(code, 0, "{error}");
    let verify = ["user", "verify", "app@example.com"];
    assert_eq!(chopar(path, &verify, "correct horse\n").0, 0);
    assert_eq!(chopar(path, &verify, "wrong\n").0, 77);
    assert_eq!(
        chopar(path, &["user", "verify", "nobody@example.com"], "x\n").0,
        67
    );
    let (code, list, _) = chopar(path, &["user", "list", "--json"], "");
    assert_eq!(code, 0);
    assert!(
        list.contains("app@example.com") && list.contains("*@example.com"),
        "{list}"
    );
    assert_eq!(chopar(path, &["check"], "").0, 0);
}
