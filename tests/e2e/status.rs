//! The status page of a relay: read by Prometheus, by Chromium, in a terminal, and by malicious clients.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Guard, PATIENCE, program, run, run_within, wait_for};
use crate::relay::{Relay, Setup};
use crate::world::free_port;

/// A relay with a status page, and its address.
fn relay() -> (Relay, SocketAddr) {
    let port = free_port();
    let setup = Setup {
        listen: format!("status = [\"127.0.0.1:{port}\"]\n"),
        ..Setup::default()
    };
    let relay = setup.start();
    (relay, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The whole response to these bytes.
fn ask(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut response = Vec::new();
    // A reset after the response is also a valid end.
    drop(stream.read_to_end(&mut response));
    String::from_utf8(response).expect("text")
}

pub(crate) fn get(at: SocketAddr, path: &str) -> String {
    let response = ask(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_owned()
}

/// The figures, with and without labels, by name.
fn figures(at: SocketAddr) -> BTreeMap<String, f64> {
    let text = get(at, "/metrics");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let figures = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    figures.collect()
}

/// Mail that arrives, mail that waits for an unreachable host, and mail that is refused permanently.
fn make_busy(relay: &Relay) {
    let mut client = relay.client();
    let message = b"From: ann@src.test\r\nSubject: busy\r\n\r\nx\r\n";
    for to in ["b@four.test", "c@four.test", "d@dead.test", "e@dead.test"] {
        let reply = client.transaction("ann@src.test", &[to], message);
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    relay.sink.wait(2);
    relay.wait_for_log("event=next-hop-paused");
    wait_for("the delivered to leave", PATIENCE, || {
        (relay.stats()["queued"] == 2).then_some(())
    });
}

/// A Prometheus of its own that scrapes these hosts.
struct Prometheus {
    folder: TempDir,
    port: u16,
    _process: Guard,
}

impl Prometheus {
    fn start(hosts: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let hosts: Vec<String> = hosts.iter().map(|at| format!("\"{at}\"")).collect();
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: chopar\n  static_configs:\n  - targets: [{}]\n",
            hosts.join(", ")
        );
        fs::write(&config, text).expect("a file");
        let port = free_port();
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let data = folder.path().join("data");
        let mut command = Command::new(program("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Guard::spawn(command.stdout(Stdio::null()).stderr(log));
        let prometheus = Self {
            folder,
            port,
            _process: process,
        };
        #[expect(clippy::cast_precision_loss, reason = "a handful of hosts")]
        let all = hosts.len() as f64;
        wait_for("Prometheus to have scraped", 3 * PATIENCE, || {
            (prometheus.value("sum(up)") == Some(all)).then_some(())
        });
        prometheus
    }

    /// The answer to a query.
    fn ask(&self, text: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let query = format!("query={text}");
        let mut curl = Command::new(program("curl"));
        let said = run(curl.args(["-sG", "--data-urlencode", &query, &url]), b"");
        serde_json::from_str(&said.stdout).ok()
    }

    /// The first value of the answer.
    fn value(&self, text: &str) -> Option<f64> {
        let answer = self.ask(text)?;
        let value = answer["data"]["result"][0]["value"][1].as_str();
        value?.parse().ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }
}

#[test]
fn prometheus_scrapes_figures_that_pass_promtool() {
    let (relay, at) = relay();
    make_busy(&relay);
    let mut check = Command::new(program("promtool"));
    let said = run(
        check.args(["check", "metrics"]),
        get(at, "/metrics").as_bytes(),
    );
    assert_eq!(
        (said.code, &*said.stdout, &*said.stderr),
        (0, "", ""),
        "{said:?}"
    );
    let prometheus = Prometheus::start(&[at]);
    let accepted = wait_for("a figure", PATIENCE, || {
        prometheus.value("chopar_accepted_total")
    });
    assert!((accepted - 4.0).abs() < f64::EPSILON, "{accepted}");
    // Prometheus understands the alerts that the manual suggests, and none of them fires here.
    for alert in [
        "chopar_disk_takes_records == 0",
        "rate(chopar_failed_total[1h]) > 10 * rate(chopar_delivered_total[1h])",
        "sum(chopar_queue_age_messages{below=~\"86400|345600|\\\\+Inf\"}) > 0",
    ] {
        let answer = prometheus.ask(alert).expect("an answer");
        assert_eq!(answer["status"], "success", "{alert}: {answer}");
        assert_eq!(prometheus.value(alert), None, "{alert}");
    }
    for query in [
        "chopar_certificate_expiry_timestamp_seconds - time()",
        "histogram_quantile(0.5, chopar_commit_seconds_bucket)",
    ] {
        assert!(prometheus.value(query).is_some(), "{query}");
    }
    let log = prometheus.log();
    assert!(
        !log.contains("level=warn") && !log.contains("level=error"),
        "{log}"
    );
}

#[test]
fn the_dashboard_draws_two_hosts_from_one_prometheus() {
    let ((one, first), (_other, second)) = (relay(), relay());
    make_busy(&one);
    let prometheus = Prometheus::start(&[first, second]);
    let text = include_str!("../../src/setup/grafana.json");
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut drawn = 0;
    for target in panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
    {
        let expression = target["expr"].as_str().expect("an expression");
        let query = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        let answer = prometheus.ask(&query).expect("an answer");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        // Every figure in the query exists.
        let names = query.split(|c: char| !c.is_alphanumeric() && c != '_');
        for name in names.filter(|word| word.starts_with("chopar_")) {
            assert!(
                prometheus.value(&format!("count({name})")).is_some(),
                "{name}"
            );
        }
        drawn += 1;
    }
    assert!(drawn > 20, "{drawn}");
    let hosts = prometheus.value("count(count by (instance) (chopar_info))");
    assert_eq!(hosts, Some(2.0));
    let by_host = prometheus
        .ask("sum by (instance) (chopar_queue_messages)")
        .expect("an answer");
    let queued: BTreeMap<&str, &str> = by_host["data"]["result"]
        .as_array()
        .expect("hosts")
        .iter()
        .filter_map(|host| {
            Some((
                host["metric"]["instance"].as_str()?,
                host["value"][1].as_str()?,
            ))
        })
        .collect();
    assert_eq!(queued[first.to_string().as_str()], "2");
    assert_eq!(queued[second.to_string().as_str()], "0");
}

/// The page in a browser: its text, and the browser's complaints.
pub(crate) fn browse(at: SocketAddr, size: &str, scheme: &str) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut chromium = Command::new(program("chromium"));
    chromium
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        // The browser itself would contact its vendor.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--window-size={size}"))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("http://{at}/"));
    let said = run_within(&mut chromium, b"", 6 * PATIENCE);
    let complaints = said.stderr.lines().filter(|line| line.contains("CONSOLE"));
    let complaints = complaints.collect::<Vec<_>>().join("\n");
    (said.ok(), complaints)
}

/// The text of a page without markup, with each run of white space as one blank.
pub(crate) fn text_of(dom: &str) -> String {
    let mut text = String::new();
    let mut is_markup = false;
    for c in dom.chars() {
        match c {
            '<' => is_markup = true,
            '>' => {
                is_markup = false;
                text.push(' ');
            }
            c if !is_markup => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_in_a_browser_shows_the_figures() {
    let (relay, at) = relay();
    let (empty, complaints) = browse(at, "1280,1500", "1");
    assert_eq!(complaints, "");
    let text = text_of(&empty);
    assert!(
        text.contains("0 in the queue 0 accepted in an hour"),
        "{text}"
    );
    assert!(
        text.contains("The queue is empty.") && text.contains("running"),
        "{text}"
    );

    make_busy(&relay);
    // Two requests within a second show the same figures.
    let figures = wait_for("the figures", PATIENCE, || {
        let figures = figures(at);
        let is_new =
            figures["chopar_accepted_total"] > 3.5 && figures["chopar_queue_messages"] < 2.5;
        is_new.then_some(figures)
    });
    let of = |name: &str| figures[name];
    assert!(
        (of("chopar_accepted_total") - 4.0).abs() < f64::EPSILON,
        "{figures:?}"
    );
    for (size, scheme) in [("1280,1500", "0"), ("390,2400", "1")] {
        let (dom, complaints) = browse(at, size, scheme);
        assert_eq!(complaints, "");
        let text = text_of(&dom);
        for shown in [
            format!("{} in the queue", of("chopar_queue_messages")),
            format!("{} accepted in an hour", of("chopar_accepted_total")),
            format!("{} delivered in an hour", of("chopar_delivered_total")),
            format!("{} failed in an hour", of("chopar_failed_total")),
            format!(
                "connection {}",
                of("chopar_unreached_total{reason=\"connection\"}")
            ),
            format!(
                "received no TLS {}",
                of("chopar_received_total{tls=\"none\"}")
            ),
            "dead.test 2 in".to_owned(),
            "mail.relay.test".to_owned(),
        ] {
            assert!(text.contains(&shown), "{shown}: {text}");
        }
        // Every local user may read it.
        assert!(
            !text.contains("ann@") && !text.contains("d@dead") && text.contains("…@dead.test"),
            "{text}"
        );
        // If the page loaded anything else, its policy would make the browser complain.
        let loads = dom
            .split(" src=\"")
            .chain(dom.split(" href=\""))
            .filter(|rest| !rest.starts_with('<'));
        assert!(
            loads.clone().count() > 4 && loads.clone().all(|rest| rest.starts_with('/')),
            "{dom}"
        );
    }
}

#[test]
fn a_browser_without_scripts_gets_a_link_to_the_text() {
    let (_relay, at) = relay();
    let page = get(at, "/");
    let (_, rest) = page.split_once("<noscript>").expect("a part for them");
    let (told, _) = rest.split_once("</noscript>").expect("its end");
    for path in ["/status.json", "/metrics"] {
        assert!(told.contains(&format!("href=\"{path}\"")), "{told}");
        assert!(!get(at, path).is_empty(), "{path}");
    }
}

#[test]
fn top_shows_the_same_in_a_terminal() {
    let (relay, at) = relay();
    make_busy(&relay);
    let json: Value = serde_json::from_str(&relay.cli(&["top", "--json"]).ok()).expect("JSON");
    let page: Value = serde_json::from_str(&get(at, "/status.json")).expect("JSON");
    for key in [
        "stats",
        "deferred",
        "unreached",
        "received_with",
        "sent_with",
        "hour",
        "providers",
    ] {
        // Measurements may have changed in between.
        let (mut one, mut other) = (json[key].clone(), page[key].clone());
        for side in [&mut one, &mut other] {
            if let Some(stats) = side.as_object_mut() {
                stats.retain(|name, _| !name.starts_with("longest_turn"));
            }
        }
        assert_eq!(one, other, "{key}");
    }
    let text = relay.cli(&["top", "--once"]).ok();
    for shown in ["queue 2 (0 held)", "dead.test", "in the last", "queued id="] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
}

#[test]
fn malicious_clients_get_nothing_and_block_no_one() {
    let (relay, at) = relay();
    for (request, status) in [
        (
            format!(
                "GET /status.json HTTP/1.1\r\nHost: evil.example:{}\r\n\r\n",
                at.port()
            ),
            "421",
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: {at}\r\nContent-Length: 3\r\n\r\nabc"),
            "405",
        ),
        (
            format!("GET /../etc/passwd HTTP/1.1\r\nHost: {at}\r\n\r\n"),
            "404",
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: {at}\r\nX: {}\r\n\r\n",
                "x".repeat(20_000)
            ),
            "431",
        ),
        ("EHLO you\r\n\r\n".to_owned(), "400"),
        (
            format!("GET /doctor.json HTTP/1.1\r\nHost: {at}\r\n\r\n"),
            "404",
        ),
    ] {
        let response = ask(at, &request);
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {response}"
        );
    }
    let head = ask(at, &format!("HEAD /metrics HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    // More connections than the page serves at a time, all of them silent.
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(at).expect("connected"))
        .collect();
    assert_eq!(get(at, "/health"), "ok\n");
    assert_eq!(relay.client().say("NOOP").code, 250);
    drop(idle);
}

#[test]
fn findings_of_the_doctor_are_on_the_page() {
    let (relay, at) = relay();
    let said = relay.cli(&["doctor", "relay.test", "--json"]);
    let found: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let kept: Value = serde_json::from_str(&get(at, "/doctor.json")).expect("JSON");
    let count = |list: &Value| list["findings"].as_array().map(Vec::len);
    assert_eq!(count(&found), count(&kept));
    assert!(kept["at"].as_u64() > Some(1_600_000_000), "{kept}");
    let (dom, complaints) = browse(at, "1280,1500", "1");
    assert_eq!(complaints, "");
    let text = text_of(&dom);
    let first = found["findings"].as_array().expect("a list").iter();
    let bad = first
        .clone()
        .find(|one| one["state"] == "bad")
        .expect("nobody reaches this one");
    assert!(
        text.contains(bad["title"].as_str().expect("a title")),
        "{text}"
    );
    assert!(text.contains("copy"), "{text}");
}

#[test]
fn a_status_port_in_use_does_not_stop_mail() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address");
    let setup = Setup {
        listen: format!("status = [\"{at}\"]\n"),
        ..Setup::default()
    };
    let relay = setup.start();
    relay.wait_for_log("event=no-status-page");
    assert_eq!(relay.client().say("NOOP").code, 250);
    drop(taken);
}
