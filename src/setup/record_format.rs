//! Records in the formats of other programs.

use serde_json::{Value as Json, json};

use super::record::{DnsRecord, RecordValue, label, quoted};
use super::zone::{Purpose, RecordState, WantedRecord, ZoneNeed};
use crate::address::Domain;
use crate::dns::ZoneKind;

/// An output format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// A zone file (RFC 1035 section 5).
    Zone,
    /// JSON, with all data of each record.
    Json,
    /// Resources of HashiCorp's `dns` provider, which speaks RFC 2136.
    Terraform,
    /// The body of Cloudflare's batch call for DNS records.
    Cloudflare,
    /// Commands of nsupdate(1).
    Nsupdate,
}

impl Format {
    /// The name on the command line.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("zone", Self::Zone),
        ("json", Self::Json),
        ("terraform", Self::Terraform),
        ("cloudflare", Self::Cloudflare),
        ("nsupdate", Self::Nsupdate),
    ];
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, format)| *format).ok_or_else(|| {
            "the formats are zone, json, terraform, cloudflare and nsupdate".to_owned()
        })
    }
}

/// A short TTL in seconds, while records still change.
pub const TTL: u32 = 3_600;

/// The rows in this format. Records outside the zone (PTR) appear only in zone files, as comments, and in JSON.
/// Programs that apply records need all of them; the table shows only what a person must still do.
pub fn format(format: Format, zone: &Domain, rows: &[WantedRecord]) -> String {
    let records: Vec<&WantedRecord> = rows.iter().filter(|row| is_in_zone(row, zone)).collect();
    match format {
        Format::Zone => zone_file(zone, rows, &records),
        Format::Json => json(rows),
        Format::Terraform => terraform(zone, &records),
        Format::Cloudflare => cloudflare(&records),
        Format::Nsupdate => nsupdate(zone, &records),
    }
}

/// Whether a record is set in the zone of the domain, and not by the provider of the address or by the owner of another
/// domain.
fn is_in_zone(row: &WantedRecord, zone: &Domain) -> bool {
    row.purpose != Purpose::Pointer && row.record.name.is_under(zone)
}

fn zone_file(zone: &Domain, rows: &[WantedRecord], records: &[&WantedRecord]) -> String {
    let mut out = String::new();
    for row in records {
        out.push_str(&line(&row.record));
    }
    let elsewhere: Vec<&WantedRecord> = rows.iter().filter(|row| !is_in_zone(row, zone)).collect();
    if !elsewhere.is_empty() {
        out.push_str("; not in this zone:\n");
    }
    for row in elsewhere {
        out.push_str("; ");
        out.push_str(&line(&row.record));
    }
    out
}

fn line(record: &DnsRecord) -> String {
    let DnsRecord { name, value } = record;
    format!("{name}. {TTL} IN {} {}\n", value.kind(), value.zone_data())
}

/// One document, with the same words for every command that shows records.
pub fn json(rows: &[WantedRecord]) -> String {
    let rows: Vec<Json> = rows.iter().map(row_json).collect();
    format!("{:#}\n", Json::Array(rows))
}

/// The record as `chopar dns --json` prints it.
pub fn row_json(row: &WantedRecord) -> Json {
    json!({
        "purpose": row.purpose.as_str(),
        "required": row.need == ZoneNeed::Required,
        "name": row.record.name.as_str(),
        "type": row.record.value.kind().as_str(),
        "value": row.record.value.line(),
        "state": row.state.as_str(),
        "found": row.found.iter().map(RecordValue::line).collect::<Vec<String>>(),
        "notes": row.notes,
    })
}

fn terraform(zone: &Domain, records: &[&WantedRecord]) -> String {
    let mut out = String::new();
    let mut sets: Vec<(&Domain, ZoneKind, Vec<&RecordValue>)> = Vec::new();
    for row in records {
        let DnsRecord { name, value } = &row.record;
        let kind = value.kind();
        match sets
            .iter_mut()
            .find(|(other, of, _)| (*other, *of) == (name, kind))
        {
            Some((.., values)) => values.push(value),
            None => sets.push((name, kind, vec![value])),
        }
    }
    for (name, kind, values) in sets {
        let Some((resource, fields)) = terraform_set(kind, &values) else {
            for value in values {
                let record = DnsRecord::new(name.clone(), value.clone());
                out.push_str(&format!("# the provider has no {kind}: {}", line(&record)));
            }
            continue;
        };
        let id: String = name
            .as_str()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        out.push_str(&format!(
            "resource \"{resource}\" \"{}_{id}\" {{\n",
            kind.as_str().to_ascii_lowercase()
        ));
        out.push_str(&format!("  zone = \"{zone}.\"\n"));
        if name != zone {
            out.push_str(&format!("  name = {}\n", hcl(&label(name, zone))));
        }
        out.push_str(&format!("  ttl  = {TTL}\n{fields}}}\n\n"));
    }
    out
}

fn terraform_set(kind: ZoneKind, values: &[&RecordValue]) -> Option<(&'static str, String)> {
    let list = |key: &str| {
        let lines: Vec<String> = values.iter().map(|value| hcl(&value.line())).collect();
        format!("  {key} = [{}]\n", lines.join(", "))
    };
    Some(match kind {
        ZoneKind::A => ("dns_a_record_set", list("addresses")),
        ZoneKind::Aaaa => ("dns_aaaa_record_set", list("addresses")),
        ZoneKind::Txt => ("dns_txt_record_set", list("txt")),
        ZoneKind::Mx => {
            let blocks = values.iter().filter_map(|value| match value {
                RecordValue::Mx(mx) => {
                    let host = mx
                        .host
                        .as_ref()
                        .map_or_else(|| ".".to_owned(), |host| format!("{host}."));
                    Some(format!(
                        "  mx {{\n    preference = {}\n    exchange   = \"{host}\"\n  }}\n",
                        mx.preference
                    ))
                }
                _ => None,
            });
            ("dns_mx_record_set", blocks.collect())
        }
        ZoneKind::Srv => {
            let blocks = values.iter().filter_map(|value| match value {
                RecordValue::Service(srv) => {
                    let target = srv.target.as_ref().map_or_else(|| ".".to_owned(), |host| format!("{host}."));
                    Some(format!(
                        "  srv {{\n    priority = {}\n    weight   = {}\n    port     = {}\n    target   = \"{target}\"\n  }}\n",
                        srv.priority, srv.weight, srv.port
                    ))
                }
                _ => None,
            });
            ("dns_srv_record_set", blocks.collect())
        }
        _ => return None,
    })
}

fn hcl(text: &str) -> String {
    let mut out = String::from("\"");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Followed by a brace, it would begin a template.
            '$' | '%' if chars.peek() == Some(&'{') => {
                out.push(c);
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn cloudflare(records: &[&WantedRecord]) -> String {
    let posts: Vec<Json> = records
        .iter()
        .filter(|row| row.state != RecordState::There)
        .map(|row| {
            let DnsRecord { name, value } = &row.record;
            let mut post = json!({
                "type": value.kind().as_str(),
                "name": name.as_str(),
                "ttl": TTL,
                "comment": row.purpose.as_str(),
            });
            let fields = match value {
                RecordValue::Mx(mx) => json!({
                    "content": mx.host.as_ref().map_or(".", Domain::as_str),
                    "priority": mx.preference,
                }),
                RecordValue::Text(text) => json!({ "content": quoted(text.as_bytes()) }),
                RecordValue::Service(srv) => json!({ "data": {
                    "priority": srv.priority,
                    "weight": srv.weight,
                    "port": srv.port,
                    "target": srv.target.as_ref().map_or(".", Domain::as_str),
                }}),
                RecordValue::Association(tlsa) => json!({ "data": {
                    "usage": tlsa.usage,
                    "selector": tlsa.selector,
                    "matching_type": tlsa.matching,
                    "certificate": value.line().rsplit(' ').next().unwrap_or_default(),
                }}),
                // Cloudflare's proxy does not forward mail.
                RecordValue::Address(_) => json!({ "content": value.line(), "proxied": false }),
                RecordValue::Alias(_) | RecordValue::Pointer(_) => {
                    json!({ "content": value.line() })
                }
            };
            if let (Some(post), Json::Object(fields)) = (post.as_object_mut(), fields) {
                post.extend(fields);
            }
            post
        })
        .collect();
    format!("{:#}\n", json!({ "posts": posts }))
}

fn nsupdate(zone: &Domain, records: &[&WantedRecord]) -> String {
    let mut out = format!("zone {zone}.\n");
    for row in records.iter().filter(|row| row.state != RecordState::There) {
        let DnsRecord { name, value } = &row.record;
        let kind = value.kind();
        if row.state == RecordState::Differs {
            // One by one: other records under the name are not ours.
            for found in &row.found {
                out.push_str(&format!(
                    "update delete {name}. {kind} {}\n",
                    found.zone_data()
                ));
            }
        }
        out.push_str(&format!(
            "update add {name}. {TTL} {kind} {}\n",
            value.zone_data()
        ));
    }
    out.push_str("send\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Mx;

    fn name(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    fn row(purpose: Purpose, owner: &str, value: RecordValue, state: RecordState) -> WantedRecord {
        WantedRecord {
            purpose,
            need: ZoneNeed::Required,
            record: DnsRecord::new(name(owner), value),
            state,
            found: vec![RecordValue::Text("v=spf1 mx +all".to_owned())],
            notes: Vec::new(),
        }
    }

    fn rows() -> Vec<WantedRecord> {
        let mx = RecordValue::Mx(Mx {
            preference: 10,
            host: Some(name("mail.example.com")),
        });
        let text = |text: &str| RecordValue::Text(text.to_owned());
        vec![
            row(Purpose::Mx, "example.com", mx, RecordState::There),
            row(
                Purpose::Spf,
                "example.com",
                text("v=spf1 exists:%{i}.a.example \"x\" ~all"),
                RecordState::Differs,
            ),
            row(
                Purpose::Pointer,
                "1.2.0.192.in-addr.arpa",
                RecordValue::Pointer(name("mail.example.com")),
                RecordState::Missing,
            ),
        ]
    }

    #[test]
    fn a_zone_file_has_each_record_on_a_line_and_what_is_elsewhere_as_a_comment() {
        assert_eq!(
            format(Format::Zone, &name("example.com"), &rows()),
            "example.com. 3600 IN MX 10 mail.example.com.\n\
             example.com. 3600 IN TXT \"v=spf1 exists:%{i}.a.example \\\"x\\\" ~all\"\n\
             ; not in this zone:\n\
             ; 1.2.0.192.in-addr.arpa. 3600 IN PTR mail.example.com.\n"
        );
    }

    #[test]
    fn nsupdate_replaces_what_differs_and_leaves_the_rest_alone() {
        assert_eq!(
            format(Format::Nsupdate, &name("example.com"), &rows()),
            "zone example.com.\n\
             update delete example.com. TXT \"v=spf1 mx +all\"\n\
             update add example.com. 3600 TXT \"v=spf1 exists:%{i}.a.example \\\"x\\\" ~all\"\n\
             send\n"
        );
    }

    #[test]
    fn terraform_takes_no_part_of_a_text_for_a_template() {
        let text = format(Format::Terraform, &name("example.com"), &rows());
        assert!(
            text.contains("txt = [\"v=spf1 exists:%%{i}.a.example \\\"x\\\" ~all\"]"),
            "{text}"
        );
        assert!(
            text.contains("resource \"dns_mx_record_set\" \"mx_example_com\" {"),
            "{text}"
        );
        assert!(!text.contains("PTR"), "{text}");
        assert_eq!(hcl("50% of $1 ${x}\n"), "\"50% of $1 $${x}\\n\"");
    }

    #[test]
    fn cloudflare_gets_what_is_not_there_yet() {
        let text = format(Format::Cloudflare, &name("example.com"), &rows());
        let json: Json = serde_json::from_str(&text).expect("JSON");
        let posts = json["posts"].as_array().expect("a list");
        assert_eq!(posts.len(), 1);
        assert_eq!(posts[0]["type"], "TXT");
    }

    #[test]
    fn json_tells_all() {
        let text = format(Format::Json, &name("example.com"), &rows());
        let json: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json[0]["state"], "there");
        assert_eq!(json[1]["found"][0], "v=spf1 mx +all");
        assert_eq!(json[2]["type"], "PTR");
    }
}
