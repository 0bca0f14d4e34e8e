//! Which function decides what a section of a standard asks for.
//!
//! A function in this index says `Decides RFC 5321 section 4.5.2.` in its doc comment, and a function that says so is
//! in this index: `tests/guide.rs` compares the two. Other comments that name a section explain the
//! line below them. If the relay is stricter or more lenient than a standard, the module doc says so.
//!
//! Enhanced status codes are looked up as they appear on the wire: `"5.1.1"` in `src/smtp/reply.rs` is the row of a
//! reply to a client; `EnhancedCode::new(5, 1, 1)` is where a recipient gets a code of our own.
//!
//! # RFC 5321: SMTP
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2.3.8 | which line ends end a command | `src/smtp/server/lines.rs` | `line_end` |
//! | 2.3.8 | a lone CR or LF in a command | `src/smtp/command.rs` | `parse` |
//! | 2.3.8 | a lone CR or LF in a body | `src/smtp/data.rs` | `step` |
//! | 2.4 | when two addresses are the same to everybody | `src/address.rs` | `is_equal` |
//! | 3.5.3 | the answer to VRFY | `src/smtp/server/commands.rs` | `take_command` |
//! | 3.9.1 | where the aliases of a served domain lead | `src/policy/relay.rs` | `expand` |
//! | 4.1.1.1 | the form of EHLO and HELO | `src/smtp/command.rs` | `hello` |
//! | 4.1.1.2 | the form of MAIL | `src/smtp/command.rs` | `mail` |
//! | 4.1.1.3 | the form of RCPT | `src/smtp/command.rs` | `rcpt` |
//! | 4.1.1.4 | the input of DATA, and the end of the message | `src/smtp/server/body.rs` | `data` |
//! | 4.1.1.5 | what RSET forgets | `src/smtp/server/commands.rs` | `rset` |
//! | 4.1.1.11 | the parameters of a command | `src/smtp/command.rs` | `parameters` |
//! | 4.1.2 | the form of a local part | `src/address.rs` | `local_part_len` |
//! | 4.1.3 | the form of an address literal | `src/address.rs` | `parse_literal` |
//! | 4.1.4 | which command is allowed when | `src/smtp/server/commands.rs` | `take_command` |
//! | 4.2 | the form of a reply that is sent | `src/smtp/reply.rs` | `write` |
//! | 4.2.1 | which codes a server may answer with | `src/smtp/reply.rs` | `take_line` |
//! | 4.3.1 | the banner | `src/smtp/reply.rs` | `banner` |
//! | 4.4 | the Received field | `src/mail/received.rs` | `to_bytes` |
//! | 4.5.1 | mail for Postmaster without a domain | `src/policy/relay.rs` | `bare` |
//! | 4.5.2 | dots that are removed from a body | `src/smtp/data.rs` | `step` |
//! | 4.5.2 | dots that are added to a body | `src/smtp/data.rs` | `encode` |
//! | 4.5.3.1.4 | how long a command line may be | `src/smtp/server.rs` | `line` |
//! | 4.5.3.1.5 | how long a reply line may be | `src/smtp/reply.rs` | `ascii` |
//! | 4.5.3.1.6 | how long a line of a message may be | `src/smtp/data.rs` | `text` |
//! | 4.5.3.1.8 | how many recipients a transaction may have | `src/smtp/server/commands.rs` | `rcpt` |
//! | 4.5.3.1.10 | the reply to one recipient too many | `src/smtp/server/commands.rs` | `rcpt` |
//! | 4.5.3.1.10 | a server's reply to one recipient too many | `src/smtp/client/result.rs` | `too_many_recipients` |
//! | 4.5.3.2 | how long a server may be silent | `src/smtp/client.rs` | `timeout` |
//! | 4.5.3.2.7 | how long a client may be silent | `src/smtp/server.rs` | `timeout` |
//! | 4.5.4.1 | when a delivery is tried again | `src/policy/retry.rs` | `delay` |
//! | 5.1 | the order of mail exchangers, and which are left out | `src/dns/mx.rs` | `mail_hosts` |
//! | 5.1 | a domain without mail exchangers | `src/dns/mx.rs` | `implicit` |
//! | 5.1 | the order of the addresses of a host | `src/engine/delivery/search.rs` | `addresses_known` |
//! | 6.1 | when a message is durable and its 250 released | `src/engine/spool.rs` | `message_committed` |
//! | 6.1 | which sender gets a failure DSN | `src/engine/dsn.rs` | `rows` |
//! | 6.3 | when a message is in a loop | `src/engine/server/intake.rs` | `end_header` |
//! | 6.3 | whether a server is this host | `src/smtp/client.rs` | `is_ourselves` |
//!
//! # RFC 1870: SIZE
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4 | the form of SIZE | `src/smtp/command.rs` | `number` |
//!
//! # RFC 2033: LMTP
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4.2 | the recipient of an LMTP reply after the dot | `src/smtp/client/envelope.rs` | `on_dot_reply` |
//!
//! # RFC 2920: PIPELINING
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 3.1 | what is sent without waiting for replies | `src/smtp/client/envelope.rs` | `send_waiting` |
//!
//! # RFC 3030: CHUNKING
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2 | how a chunk of BDAT is received | `src/smtp/server/body.rs` | `chunk` |
//!
//! # RFC 3207: STARTTLS
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4 | when STARTTLS is offered | `src/smtp/server/commands.rs` | `greet` |
//! | 4 | when STARTTLS is used, and when its lack ends a session | `src/smtp/client.rs` | `after_ehlo` |
//! | 4.2 | what is forgotten when TLS is active | `src/smtp/server/commands.rs` | `on_tls` |
//!
//! # RFC 3461: DSN, the extension of SMTP
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4 | the form of xtext | `src/xtext.rs` | `decode_xtext` |
//! | 4.1 | the form of NOTIFY | `src/smtp/command.rs` | `parse_notify` |
//! | 4.2 | the form of ORCPT | `src/smtp/command.rs` | `parse_original` |
//! | 4.3 | the form of RET | `src/smtp/command.rs` | `mail` |
//! | 4.4 | the form of ENVID | `src/smtp/command.rs` | `mail` |
//! | 5.2.1 | the DSN parameters of a recipient for a next hop | `src/smtp/client/envelope.rs` | `write_rcpt` |
//! | 5.2.2 | a DSN about a next hop without DSN | `src/engine/dsn.rs` | `rows` |
//! | 5.2.7.1 | ORCPT of what an alias expands to | `src/engine/server/verdict.rs` | `recipient_verdict` |
//!
//! # RFC 3462: multipart/report
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2 | how much of a message a DSN returns | `src/mail/dsn.rs` | `original_part` |
//!
//! # RFC 3463: enhanced status codes
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2 | the form of an enhanced status code | `src/status.rs` | `from_str` |
//! | 3.8 | a status that is about security | `src/smtp/client/result.rs` | `may_want_tls` |
//!
//! # RFC 3464: DSN, the format
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2.1 | the parts of a DSN | `src/mail/dsn.rs` | `build` |
//! | 2.2 | the fields about the message | `src/mail/dsn.rs` | `status_part` |
//! | 2.3 | the fields about a recipient | `src/mail/dsn.rs` | `append_status` |
//! | 2.3.4 | the status of a recipient | `src/mail/dsn.rs` | `status` |
//! | 2.3.5 | which host reported | `src/engine/dsn.rs` | `remote_mta` |
//!
//! # RFC 4954: AUTH
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4 | when AUTH is allowed | `src/smtp/server/auth.rs` | `auth` |
//! | 4 | a response line of AUTH, and cancelling it | `src/smtp/server/auth.rs` | `on_auth_line` |
//! | 4 | the form of an initial response | `src/login/sasl.rs` | `decode_initial` |
//! | 5 | AUTH= of MAIL | `src/smtp/command.rs` | `mail` |
//! | 6 | whether another mechanism may succeed | `src/smtp/client/auth.rs` | `is_of_the_way` |
//!
//! # RFC 6376: DKIM
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 3.2 | the form of a tag list | `src/auth/dkim/tag.rs` | `parse` |
//! | 3.4.2 | the relaxed form of a field | `src/auth/dkim/canonical.rs` | `append_relaxed` |
//! | 3.4.4 | the end of a body in canonical form | `src/auth/dkim/canonical.rs` | `end` |
//! | 3.5 | which tags a signature has to have | `src/auth/dkim/signature.rs` | `parse` |
//! | 3.5 | whether a signature has expired | `src/auth/dkim/signature.rs` | `check_dates` |
//! | 3.6.1 | whether a text is a key record, and its key | `src/auth/dkim/record.rs` | `parse` |
//! | 3.7 | what is signed | `src/auth/dkim/signature.rs` | `data` |
//! | 5.4 | which fields we sign | `src/auth/dkim/sign.rs` | `select` |
//! | 6.1.1 | that a signature covers From | `src/auth/dkim/signature.rs` | `signed_names` |
//!
//! # RFC 6409: submission
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4.3 | that submission needs a login | `src/smtp/server/commands.rs` | `mail` |
//! | 6.1 | which addresses the user may send from | `src/policy/sender.rs` | `may_send_as` |
//! | 8.1 | the From that a message lacks | `src/engine/server/verdict.rs` | `author_verdict` |
//! | 8.2 | the Date that a message lacks | `src/mail/submission.rs` | `missing_fields` |
//! | 8.3 | the Message-ID that a message lacks | `src/mail/submission.rs` | `message_id` |
//!
//! # RFC 7208: SPF
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4.3 | whether a domain can be checked at all | `src/auth/spf/mod.rs` | `initial_domain` |
//! | 4.4 | which record counts | `src/auth/spf/mod.rs` | `record` |
//! | 4.5 | whether a text is a record | `src/auth/spf/record.rs` | `is_one` |
//! | 4.6.4 | how many terms may ask the DNS | `src/auth/spf/mod.rs` | `count_term` |
//! | 4.6.4 | how many look-ups may find nothing | `src/auth/spf/mod.rs` | `nothing` |
//! | 4.6.4 | how many mail exchangers a term may have | `src/auth/spf/mod.rs` | `mail_hosts` |
//! | 4.7 | the result where nothing matches | `src/auth/spf/mod.rs` | `resume` |
//! | 5 | whether a mechanism matches | `src/auth/spf/mod.rs` | `matches` |
//! | 5.5 | the validated names of a client | `src/auth/spf/mod.rs` | `validated_names` |
//! | 6.1 | redirect | `src/auth/spf/mod.rs` | `step` |
//! | 6.2 | the explanation of a fail | `src/auth/spf/mod.rs` | `explanation` |
//! | 7.3 | what a macro stands for | `src/auth/spf/expansion.rs` | `expand` |
//!
//! # RFC 7505: null MX
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 3 | which records are a null MX | `src/dns/mx.rs` | `mail_hosts` |
//!
//! # RFC 8601: Authentication-Results
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2.2 | which values are quoted | `src/auth/results.rs` | `quoted_address` |
//! | 2.7.1 | the words for a result of DKIM | `src/auth/dkim/verdict.rs` | `verdict` |
//! | 2.7.2 | the result of SPF | `src/auth/results.rs` | `spf` |
//! | 2.7.4 | the result of a login | `src/auth/results.rs` | `auth` |
//! | 5 | which fields are removed because they claim to be ours | `src/auth/results.rs` | `claims_id` |
//!
//! # RFC 8617: ARC
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 4.1.1 | the form of ARC-Authentication-Results | `src/auth/arc/sets.rs` | `split_results` |
//! | 4.1.2 | what a message signature may not cover | `src/auth/arc/verify.rs` | `read_message` |
//! | 4.1.3 | which tags a seal may not have | `src/auth/arc/verify.rs` | `read_seal` |
//! | 4.2.1 | how many sets a chain may have | `src/auth/arc/seal.rs` | `prepare` |
//! | 4.4 | `cv=` of a new set | `src/auth/arc/sets.rs` | `status` |
//! | 5.1 | whether a set is added, and its content | `src/auth/arc/seal.rs` | `prepare` |
//! | 5.1.1 | what a seal covers | `src/auth/arc/verify.rs` | `seal_data` |
//! | 5.2 | whether the sets can be a chain | `src/auth/arc/sets.rs` | `whole_sets` |
//! | 5.2 | whether the chain is valid | `src/auth/arc/verify.rs` | `outcome` |
//! | 5.2.1 | a key that cannot be fetched | `src/auth/arc/verify.rs` | `judge` |
//! | 7.2.1 | whether a trusted sealer excuses a failure | `src/policy/authenticity.rs` | `vouching` |
//!
//! # RFC 9989: DMARC
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 3.2.13 | whether a name exists | `src/auth/dmarc/mod.rs` | `exists` |
//! | 4.7 | whether a text is a policy, and which | `src/auth/dmarc/record.rs` | `parse` |
//! | 4.8 | the form of a tag | `src/auth/dmarc/record.rs` | `tag` |
//! | 4.10 | the names that are queried for a policy | `src/auth/dmarc/mod.rs` | `walk` |
//! | 4.10.1 | which record's policy counts | `src/auth/dmarc/mod.rs` | `record_that_counts` |
//! | 4.10.2 | which organization a name belongs to | `src/auth/dmarc/mod.rs` | `organization` |
//! | 5.4 | the action for a message that fails | `src/policy/authenticity.rs` | `judge` |
//!
//! # PROXY protocol: proxy-protocol.txt of HAProxy
//!
//! | section | decides | file | function |
//! | --- | --- | --- | --- |
//! | 2.1 | the form of a header of version 1 | `src/proxy.rs` | `line_origin` |
//! | 2.2 | the form of a header of version 2 | `src/proxy.rs` | `block_origin` |
//! | 2.2.3 | the checksum of a header | `src/proxy.rs` | `check_values` |
