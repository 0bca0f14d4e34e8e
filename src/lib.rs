//! chopar, a mail relay in one small static binary.
//!
//! The crate is laid out in floors; a module imports only from lower ones:
//!
//! | floor | modules | touches the world |
//! | --- | --- | --- |
//! | 6 | `main.rs`, [`cli`] | yes |
//! | 5 | [`setup`], [`shell`] | yes |
//! | 4 | [`engine`] | no |
//! | 3 | [`queue`] | through its `Disk` trait |
//! | 2 | [`config`], [`policy`] | no |
//! | 1 | [`smtp`], [`hook`], [`proxy`], [`dns`], [`mail`], [`auth`], [`login`], [`acme`], [`http`], [`metrics`], [`report`] | no |
//! | 0 | the vocabulary (addresses, dates, limits, …), and what everything may use, such as the nearest word | no |
//!
//! State machines that do no I/O and hold no clock make all decisions. They take bytes, answers and the time, and return
//! actions; only `shell`, `setup` and `cli` perform I/O. `tests/layering.rs` checks the floors.
//!
//! # The life of a message
//!
//! | | what happens | where |
//! | --- | --- | --- |
//! | 1 | A client connects. The event loop reads its bytes, up to a limit per turn. | `src/shell/event_loop.rs` `turn()`, `src/shell/event_loop/connections.rs` `accept_all()` |
//! | 2 | The engine passes each event to the participant that it concerns: the server sessions, the delivery, the spool, the DSNs or the operator's tools. Participants tell each other of it with notes, which the engine delivers before the next event. | `src/engine/mod.rs` `route()` `hand()`, `src/engine/event.rs`, `src/engine/note.rs` |
//! | | The engine returns actions. One driver interprets them and has a `World` perform them: the event loop with real I/O, or a simulated one in a test. | `src/engine/driver.rs` `settle()` `perform()`, `src/shell/event_loop/world.rs` `tell()` |
//! | 3 | The session sends its banner. It parses lines into commands; what it cannot decide alone it asks the engine as a request. | `src/engine/server/opening.rs` `greet()`, `src/smtp/command.rs` `parse()`, `src/smtp/server.rs` `advance()`, `src/smtp/server/commands.rs` `take_command()`, `src/engine/server/turn.rs` `on_request()` |
//! | 4 | A sender or a recipient is accepted or refused. The reply to an unknown recipient is `UNKNOWN_RECIPIENT`. | `src/engine/server/verdict.rs` `sender_verdict()` `recipient_verdict()` `refusal_reply()`, `src/policy/relay.rs` `recipient()` `find()` |
//! | 5 | The body arrives. Its header decides which domain signs it and whether it is verified. A body too large for memory is streamed to the disk. | `src/engine/server/intake.rs` `on_body()` `end_header()`, `src/engine/server/message.rs` `on_header()` `message_whole()` |
//! | 6 | The message of an unauthenticated client is verified (SPF, DKIM, ARC, DMARC), and refused or marked. | `src/engine/server/authentication.rs` `examine()` `examination_answer()`, `src/policy/authenticity.rs` `judge()`, `src/policy/authority.rs` `release()` |
//! | 7 | The hook judges the message, header fields are added, and workers sign and seal it. | `src/engine/server/hook.rs` `judge_by_hook()`, `src/engine/server/message.rs` `message_wanted()` `on_signed()`, `src/auth/arc/seal.rs` `prepare()` |
//! | 8 | The journal writes the message and syncs. | `src/engine/spool.rs` `append()`, `src/shell/spool/journal_writer.rs` `batch()`, `src/queue/journal/commit.rs` `commit()` |
//! | 9 | **The message is durable**: it enters the queue, and the 250 is released. | `src/engine/spool.rs` `on_stored()` `message_committed()`, `src/engine/server/message.rs` `on_stored()` |
//! | 10 | The message waits for its next hops. Each next hop with mail that is due gets delivery sessions. | `src/engine/delivery/queue.rs` `on_queued()` `hop_for()`, `src/policy/route.rs` `next_hop()`, `src/engine/delivery/dispatch.rs` `dispatch()` |
//! | 11 | Hosts and addresses are looked up and tried in order. A null MX fails the recipients at once. | `src/engine/delivery/search.rs` `on_mx()` `try_next()`, `src/dns/mx.rs` `mail_hosts()` |
//! | 12 | The message is sent, and the replies become a result for each recipient. | `src/engine/delivery/carry.rs` `begin_transaction()`, `src/smtp/client.rs` `on_bytes()`, `src/smtp/client/envelope.rs` `begin()` `on_dot_reply()` |
//! | 13 | **The delivery result is recorded**, before the session takes another message. | `src/engine/delivery/outcome.rs` `on_transaction_done()` `record_results()`, `src/engine/spool.rs` `record()`, `src/engine/delivery/queue.rs` `on_recorded()` |
//! | 14 | **A DSN is written** if the sender must get one. It is a message of its own, and the result is recorded after it. | `src/engine/delivery/outcome.rs` `settle_outcomes()`, `src/engine/dsn.rs` `notify()` `compose()`, `src/mail/dsn.rs` `build()` |
//! | 15 | A message with a result for every recipient leaves the queue. | `src/engine/delivery/queue.rs` `finish_message()`, `src/engine/spool.rs` `finish()` |
//!
//! # Questions that are asked often
//!
//! | question | answer |
//! | --- | --- |
//! | Where is a recipient refused? | `src/engine/server/verdict.rs` `recipient_verdict()`; the reply to each cause is in `src/engine/server/verdict.rs` `refusal_reply()`, the cause in `src/policy/relay.rs` `recipient()` |
//! | Where does a `5.1.1` come from? | Search for it in `src/smtp/reply.rs`, where each reply of chopar is a row with its code. `src/smtp/reply.rs` `status()` reads the code in a next hop's reply, and `src/shell/helper/lmtp.rs` `of_program()` derives one from a program's exit code |
//! | What decides `cv=` of a new ARC set? | `src/auth/arc/sets.rs` `status()`, from the verdict of `src/auth/arc/verify.rs` `outcome()`; `src/auth/arc/seal.rs` `prepare()` writes it |
//! | Which timeout ends an idle session? | `src/smtp/server.rs` `timeout()`, with values from `src/limits.rs`; `src/engine/server/deadline.rs` `deadline()` computes when, `src/engine/server/closing.rs` `on_timeout()` ends the session. Of a delivery session: `src/smtp/client.rs` `timeout()`, `src/engine/delivery/leaving.rs` `on_timeout()` |
//! | How does SIGHUP reach the aliases? | `src/shell/process/signals.rs` `take()`, `src/shell/event_loop.rs` `on_signals()`, `src/shell/event_loop/periodic.rs` `read_configuration()`, `src/shell/files/loading.rs` `read()`, `src/config/mod.rs` `parse()`, `src/engine/mod.rs` `reconfigure()`; from then on `src/policy/relay.rs` `find()` reads the new `Config` |
//! | Which extensions does EHLO list? | `src/smtp/server/commands.rs` `greet()` |
//! | Where is a bare LF or CR refused? | In a command: `src/smtp/command.rs` `parse()`. In a body: `src/smtp/data.rs` `set_fault()` with `BareNewline` |
//! | Where is an SRS address checked? | `src/engine/server/verdict.rs` `returned()` calls `src/auth/srs.rs` `unwrap()`; `src/policy/authority.rs` `of_return()` decides whether this message may use it |
//! | Where does an SRS address lose a use, and get it back? | `src/engine/server/verdict.rs` `use_returns()` takes it before the message is stored; `give_back()` there returns it if the message is refused. The counts: `src/policy/returns.rs` `take()` |
//! | What limits one client's share of sessions, memory or questions? | `src/policy/shares.rs` `has_room()`; a share gives its units back in `drop()` there. Capacities: `src/engine/shares.rs` `capacity()`. Sessions by address: `src/policy/rates.rs` `open()` |
//! | Where is a recipient expanded to the targets of its alias? | `src/policy/relay.rs` `expand()` |
//! | Where is an unknown key of chopar.toml found? | `src/config/document.rs` `read()`; `src/nearest.rs` `nearest()` finds the key that was probably meant |
//! | Where are AUTH failures counted? | `src/engine/server/sasl.rs` `note_failure()` calls `src/policy/rates.rs` `failed()`; `is_locked()` refuses AUTH after too many |
//! | Where does the memory limit answer 452? | Before a message or a recipient: `src/engine/server/verdict.rs` `room_verdict()`, `src/engine/server/abuse.rs` `has_room_for_recipient()`. When memory runs short: `src/engine/server/room.rs` `make_room()` |
//! | Where does a 4xx become a time of the next attempt? | `src/engine/delivery/outcome.rs` `deferral()`, with `src/policy/retry.rs` `delay()` |
//! | Where is a next hop that fails paused? | `src/engine/delivery/dispatch.rs` `pause_hop()` |
//! | How does the spool store a recipient's destination? | As the text that `src/destination.rs` `fmt()` writes and `read()` reads; `src/queue/codec.rs` `put_envelope()` stores it |
//! | Which function decides a section of an RFC? | The index is [`standards`] |
//!
//! # Threads and processes
//!
//! | thread or process | what it does | where |
//! | --- | --- | --- |
//! | event loop, the main thread | polls, reads, writes and runs the engine; it never waits for a sync or a computation | `src/shell/event_loop.rs` `run()` |
//! | journal writer | appends, syncs and manages the segments | `src/shell/spool/journal_writer.rs` `serve()` |
//! | workers, as many as cores | signatures, verification, passwords | `src/shell/workers.rs` `work()` |
//! | drop | submits messages that `sendmail` left while the daemon was down | `src/shell/spool/drop_folder/run.rs` `run()` |
//! | renewal | obtains and renews certificates | `src/shell/renewals.rs` `start()`, `src/setup/acme/renewal.rs` `run()` |
//! | helper, a separate process outside of the sandbox | runs programs and hooks and writes maildirs, with a thread for each session | `src/shell/helper/serve.rs` `serve()` |
//!
//! # Where to begin
//!
//! | to add | begin at | then |
//! | --- | --- | --- |
//! | an SMTP extension | `src/smtp/server/commands.rs` `greet()`, `src/smtp/command.rs` `mail()` `rcpt()` | what is stored: `src/envelope.rs`, `src/queue/codec.rs`; the next hop: `src/smtp/client/extensions.rs` `parse()`, `src/smtp/client/envelope.rs` `write_mail()`; a dialogue in `tests/dialogs`; `src/standards.rs` |
//! | a configuration key | `src/config/settings.rs`, which names the file of each section | the type: in that file or `src/config/mod.rs`; `src/config/tests/keys.rs`; `man/chopar.toml.5`; if it needs a restart, `src/shell/event_loop/fixed.rs` `differing()` |
//! | a command | `src/cli/mod.rs` | a file beside it; its example: `src/cli/help.rs` `with_example()`; `man/chopar.8`; `tests/commands.rs` |
//! | a log event | `Line::new` where the event happens; the form is in `src/engine/log.rs` | `man/chopar-log.7`, with each field |
//! | a target of an alias | `src/config/target.rs` `parse()` | `src/destination.rs` `read()`, `src/policy/relay.rs` `follow()`, `src/engine/delivery/search.rs` `add_hosts()`, `src/shell/helper/lmtp.rs` `deliver()`, `man/chopar-aliases.5` |
//! | a counter | `src/engine/counters.rs` | the code that counts it; `src/engine/status/figures.rs`; `man/chopar-log.7` and `man/chopar-status.7` |
//! | an action of the engine | `Action` in `src/engine/event.rs`, `src/engine/driver.rs` `perform()` | its event; the worlds: `src/shell/event_loop/world.rs`, `tests/stage/scene.rs`, `tests/sim/driven.rs`, `tests/sim/million.rs` |
//! | a check of `chopar doctor` | `src/setup/doctor/checks.rs` | the facts: `src/setup/doctor/gather`; the judgement: `src/setup/doctor/judge/rules.rs`; `man/chopar.8`; `tests/e2e/doctor` |
//!
//! `tests/guide.rs` checks that every file that this page names exists, and that every function is in the file named before it.

#![forbid(unsafe_code)]
// Denies what input could turn into a panic. A proven exception gives its reason.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::panic
    )
)]
// Code that decides also counts without overflow, and takes time, randomness and everything else of the world as
// arguments. .ci/clippy.toml lists what it must not name.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::disallowed_methods,
        clippy::disallowed_types
    )
)]

pub mod acme;
pub mod address;
pub mod auth;
pub mod cause;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "commands: they touch the world"
)]
pub mod cli;
pub mod clock;
pub mod config;
pub mod date;
pub mod destination;
pub mod digest;
pub mod dns;
pub mod engine;
pub mod entropy;
pub mod envelope;
pub mod escape;
pub mod hook;
pub mod http;
pub mod limits;
pub mod login;
pub mod mail;
pub mod metrics;
pub mod nearest;
pub mod policy;
pub mod proxy;
pub mod queue;
pub mod queue_id;
pub mod report;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "changes the machine: it touches the world"
)]
pub mod setup;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "performs I/O for the floors that decide"
)]
pub mod shell;
pub mod smtp;
pub mod standards;
pub mod status;
pub mod workload;
pub mod xtext;
