//! Every bound of the relay, with its unit and its source.
//!
//! A bound that an operator may set is a default here (`_DEFAULT`); the others are fixed. When a peer reaches a bound,
//! it gets a reply for it; data are never dropped silently.

use std::time::Duration;

// Addresses and lines.

/// Bytes of a domain name in text form (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Bytes of one label of a domain name (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Bytes of a path without its angle brackets (RFC 5321 section 4.5.3.1.3 counts 256 with them). A local part has no
/// bound of its own: section 4.5.3.1 asks not to refuse one of more than 64 for that alone.
pub const PATH_BYTES_MAX: usize = 254;
/// Bytes of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 and lets extensions add to it:
/// MAIL gains 500 for AUTH= (RFC 4954 section 3) and 107 for ENVID (RFC 3461 section 4.4), RCPT 500 for ORCPT.
pub const COMMAND_LINE_BYTES_MAX: usize = 2_048;
/// Bytes of an AUTH response line with its CRLF (RFC 4954 section 4).
pub const AUTH_LINE_BYTES_MAX: usize = 12_288;
/// Bytes of one line of a message without its CRLF (RFC 5322 section 2.1.1, RFC 5321 section 4.5.3.1.6). A longer
/// incoming line is passed on unchanged, unless `long_lines` is "refuse".
pub const TEXT_LINE_BYTES_MAX: usize = 998;
/// Bytes of a whole header block; a longer one is refused with 5.6.0.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Fields in a header block; more are refused with 5.6.0.
pub const HEADER_FIELDS_MAX: usize = 2_000;
/// Received fields, past which a message is held to be in a loop (RFC 5321 section 6.3 asks for at least 100).
pub const RECEIVED_FIELDS_MAX: usize = 100;
/// Recipients of one transaction (RFC 5321 section 4.5.3.1.8 asks for at least 100); announced by LIMITS RCPTMAX.
pub const RECIPIENTS_MAX: usize = 1_000;
/// Addresses in one field of a header: as many as a message of a program of this machine may name in `To`.
pub const ADDRESS_LIST_MAX: usize = 10_000;
/// Bytes of an ENVID parameter after xtext decoding (RFC 3461 section 4.4).
pub const ENVID_BYTES_MAX: usize = 100;
/// Bytes of an ORCPT parameter (RFC 3461 section 4.2).
pub const ORCPT_BYTES_MAX: usize = 500;

// The server's sessions.

/// Wait for the next command (RFC 5321 section 4.5.3.2.7).
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// Wait for the next block of DATA or BDAT (RFC 5321 section 4.5.3.2.5).
pub const DATA_BLOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// The least rate of a message body, in bytes a second, measured after the first minute of DATA.
pub const DATA_RATE_BYTES_MIN: u64 = 64;
/// A whole TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Upper limit for the duration of a session.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(3_600);
/// A session that has not authenticated (on a port that requires it) and has not begun a transaction.
pub const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(60);
/// The whole time that such a session has for it, whatever commands it sends meanwhile.
pub const UNAUTHENTICATED_SESSION_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a session may be idle between messages when all sessions of its trust level are in use, and another client
/// connects.
pub const CROWDED_IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same inside a message.
pub const CROWDED_MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait on port 25 in which an unauthenticated client that talks before the banner shows itself; hosts in `networks` do
/// not wait.
pub const BANNER_DELAY: Duration = Duration::from_millis(100);
/// Wait for the header of the PROXY protocol, whose specification asks for three seconds at least.
pub const PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a header of the PROXY protocol, version 1, with its CRLF (proxy-protocol.txt section 2.1).
pub const PROXY_LINE_BYTES_MAX: usize = 107;
/// Bytes of a header of the PROXY protocol, version 2; its length field would allow 64 KiB.
pub const PROXY_HEADER_BYTES_MAX: usize = 4_096;
/// Errors in one session, past which it is closed with 421.
pub const SESSION_ERRORS_MAX: u32 = 10;
/// Failures of AUTH in one session, past which it is closed.
pub const SESSION_AUTH_FAILURES_MAX: u32 = 3;
/// Commands that achieve nothing (NOOP, RSET, VRFY, HELP, EHLO, AUTH, an empty BDAT that is not the last) since the
/// last accepted message of a session, past which it is closed with 421.
pub const SESSION_IDLE_COMMANDS_MAX: u32 = 100;
/// Bytes that are swallowed after a smuggling attempt or an over-long line before the session is cut.
pub const SWALLOW_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Server sessions at a time, all listeners together.
pub const SESSIONS_MAX_DEFAULT: usize = 20_000;
/// Server sessions at a time from one address (one /64 of IPv6).
pub const SESSIONS_PER_PEER_MAX_DEFAULT: usize = 100;
/// Failures of AUTH from one address within [`AUTH_FAILURE_WINDOW`], past which AUTH is refused unseen.
pub const AUTH_FAILURES_PER_PEER_MAX: u32 = 20;
/// The same for all addresses of a site together; past it, addresses without a successful login must wait too.
pub const AUTH_FAILURES_PER_SITE_MAX: u32 = 80;
/// How long a failure of AUTH is remembered for its address.
pub const AUTH_FAILURE_WINDOW: Duration = Duration::from_secs(900);
/// Addresses with failures of AUTH that are remembered at a time.
pub const AUTH_FAILURE_ENTRIES_MAX: usize = 16_384;
/// How long an address is remembered from which a login has succeeded.
pub const KNOWN_ADDRESS_LIFETIME: Duration = Duration::from_secs(30 * 86_400);
/// Addresses with a successful login that are remembered at a time.
pub const KNOWN_ADDRESSES_MAX: usize = 4_096;
/// Addresses that any table of peers remembers at a time.
pub const PEER_TABLE_ENTRIES_MAX: usize = 65_536;
/// Password derivations that workers do at a time: one processor is left to everything else.
pub const DERIVATIONS_AT_ONCE: usize = 2;
/// Password derivations that may wait for a worker; past it AUTH answers 454.
pub const DERIVATIONS_WAITING_MAX: usize = 256;
/// How long a password that was right is remembered under its keyed hash.
pub const PASSWORD_MEMORY: Duration = Duration::from_secs(600);
/// Passwords remembered at a time.
pub const PASSWORD_MEMORY_ENTRIES_MAX: usize = 1_024;
/// Messages a user may submit in an hour; 0 in the configuration lifts it.
pub const MESSAGES_PER_USER_HOUR_DEFAULT: u32 = 1_000;
/// Messages that programs of one local uid may submit in an hour; 0 in the configuration lifts it.
pub const MESSAGES_PER_UID_HOUR_DEFAULT: u32 = 5_000;
/// How many times as many root and the relay's own account may submit: cron and the DSNs of the drop folder are theirs.
pub const SYSTEM_UID_FACTOR: u32 = 10;
/// Local uids whose messages are counted separately; further ones share one count, as do uids without account.
pub const UIDS_COUNTED_MAX: usize = 4_096;

// Unauthenticated clients on port 25.

/// Connections of one address (one /64 of IPv6) in a minute; 0 in the configuration lifts it, and the next two.
pub const CONNECTIONS_PER_MINUTE_DEFAULT: u32 = 120;
/// Messages of one address in a minute.
pub const MESSAGES_PER_MINUTE_DEFAULT: u32 = 120;
/// Recipients of one address in a minute.
pub const RECIPIENTS_PER_MINUTE_DEFAULT: u32 = 1_000;
/// How many times as much a network (a /24 of IPv4, a /48 of IPv6) may as one address.
pub const ABUSE_NETWORK_FACTOR: u32 = 4;
/// Rates and misdeeds of addresses and networks that are remembered at a time.
pub const ABUSE_TABLE_ENTRIES_MAX: usize = 32_768;
/// Recipients that do not exist, past which a session is closed; 0 in the configuration lifts it.
pub const UNKNOWN_RECIPIENTS_DEFAULT: u32 = 10;
/// After this many times as many from one address within [`MISDEED_WINDOW`], the address is refused for as long.
pub const UNKNOWN_SESSIONS: u32 = 5;
/// How long refusals count against an address.
pub const MISDEED_WINDOW: Duration = Duration::from_secs(3_600);
/// Refusals within [`MISDEED_WINDOW`], past which an address waits for its replies.
pub const TARPIT_REFUSALS: u32 = 20;
/// By how much each further refusal lengthens the wait.
pub const TARPIT_STEP: Duration = Duration::from_millis(500);
/// The longest such wait.
pub const TARPIT_DELAY_MAX: Duration = Duration::from_secs(10);
/// Names of an address that are looked up to see whether one leads back.
pub const PTR_NAMES_MAX: usize = 4;
/// Lists of bad addresses that are asked about one address.
pub const DNSBL_ZONES_MAX: usize = 16;
/// Bytes of the domain of such a list: 64 for the digits of an IPv6 address fit in front of it.
pub const DNSBL_NAME_BYTES_MAX: usize = 180;
/// How long greylisting puts a first attempt off.
pub const GREYLIST_DELAY_DEFAULT: Duration = Duration::from_secs(300);
/// How long the second attempt may take.
pub const GREYLIST_WINDOW_DEFAULT: Duration = Duration::from_secs(86_400);
/// How long it is remembered that it came: longer than between two monthly letters.
pub const GREYLIST_LIFETIME_DEFAULT: Duration = Duration::from_secs(36 * 86_400);
/// Attempts and networks that greylisting remembers.
pub const GREYLIST_ENTRIES_MAX: usize = 65_536;
/// Senders of one network (a /24 of IPv4, a /64 of IPv6) that came again, past which it is let through.
pub const GREYLIST_PASSES: u8 = 5;

// Messages and memory.

/// Bytes of a message.
pub const MESSAGE_BYTES_MAX_DEFAULT: u64 = 50 * 1024 * 1024;
/// Bytes of all buffers together.
pub const MEMORY_BYTES_MAX_DEFAULT: u64 = 64 * 1024 * 1024;
/// Bytes of a message that are held in memory; a longer one is streamed to a file of its own.
pub const INLINE_BODY_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a streamed body that may be on their way to the disk, past which its session is not read.
pub const BODY_IN_FLIGHT_BYTES_MAX: usize = 512 * 1024;
/// Bytes read from a socket in one turn for one connection.
pub const READ_TURN_BYTES_MAX: usize = 64 * 1024;
/// Bytes of input and output that a session may let wait while it holds more memory than its share; past it it is
/// closed.
pub const SESSION_KEPT_BYTES: usize = 2 * 1024;
/// Bytes of output a connection may have pending, past which its peer is not read.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;

// Shares of scarce resources.

/// Eighths of a pool that unauthenticated clients of port 25 can reach.
pub const CLIENT_EIGHTHS: u64 = 4;
/// Eighths of a pool that clients of the submission ports can reach before they have logged in.
pub const VISITOR_EIGHTHS: u64 = 6;
/// The same for addresses that have logged in before; users, local programs and `relay.networks` reach all of it.
pub const KNOWN_EIGHTHS: u64 = 7;
/// One address (one /64 of IPv6) may hold the free units divided by this.
pub const SHARE_OF_ADDRESS: u64 = 4;
/// The same for a site (a /24 of IPv4, a /48 of IPv6).
pub const SHARE_OF_SITE: u64 = 2;
/// The same for a network (a /16 of IPv4, a /32 of IPv6), and for one user, local account or host of `relay.networks`.
pub const SHARE_OF_NETWORK: u64 = 1;
/// When less than this many eighths of the memory that a trust level can reach are free, bodies are streamed to the
/// disk early.
pub const SPILL_EIGHTHS: u64 = 4;
/// When less than this many are free, the session that holds most loses its memory.
pub const YIELD_EIGHTHS: u64 = 1;
/// Sessions that make room in one turn.
pub const YIELDS_PER_TURN_MAX: usize = 16;

// The client's sessions (RFC 5321 section 4.5.3.2).

/// A TCP connection to one address of a next hop.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait for the banner and for each reply up to and including that to MAIL, RCPT and RSET.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// Wait for the 354 (RFC 5321 section 4.5.3.2.4).
pub const DATA_START_TIMEOUT: Duration = Duration::from_secs(120);
/// Wait for one block of the body to be taken (RFC 5321 section 4.5.3.2.5).
pub const DATA_SEND_TIMEOUT: Duration = Duration::from_secs(180);
/// Wait for the reply to the final dot (RFC 5321 section 4.5.3.2.6).
pub const DATA_END_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of one reply, all its lines together.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Lines that are read of one reply of a next hop; a longer one ends the session.
pub const REPLY_LINES_MAX: usize = 100;
/// Characters of a remote reply that are kept for logs and DSNs.
pub const REPLY_TEXT_CHARS_MAX: usize = 400;
/// Time of a search for a host that accepts a message: past it no other host or address is tried in the same attempt.
pub const DELIVERY_WALK_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Time of one attempt at a message with all hosts that it is offered to: past it the transaction is cut off and
/// deferred.
pub const DELIVERY_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4 * 3_600);
/// A delivery session that is older than this takes no other message.
pub const DELIVERY_SESSION_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How long an address that could not be reached is skipped by sessions that carry a message on from another host.
pub const DEAD_ADDRESS_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a next hop waits when there are enough delivery sessions to its address.
pub const HOP_REST: Duration = Duration::from_secs(2);
/// Addresses that could not be connected to that are remembered of one next hop.
pub const DEAD_ADDRESSES_MAX: usize = 16;
/// How soon after a failed attempt a next hop is tried again early, if a new message has arrived for it.
pub const HOP_PROBE_INTERVAL: Duration = Duration::from_secs(300);
/// Next hops of each kind that are looked at again when a delivery session has ended.
pub const WAKES_PER_DELIVERY_MAX: usize = 16;
/// Idle client session that is kept for the next message to its next hop.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages after which a delivery session has had its turn: it ends if other next hops wait for a session.
pub const DELIVERY_TURN_MESSAGES: u32 = 20;
/// Time after which it has had its turn, however few messages it sent.
pub const DELIVERY_TURN: Duration = Duration::from_secs(30);
/// Messages in one client session.
pub const CLIENT_MESSAGES_MAX: u32 = 1_000;
/// Client sessions at a time to one next hop.
pub const SESSIONS_PER_HOP_DEFAULT: usize = 8;
/// Client sessions at a time to all next hops.
pub const CLIENT_SESSIONS_DEFAULT: usize = 64;
/// MX hosts that are tried in one attempt.
pub const MX_HOSTS_MAX: usize = 10;
/// Addresses that are tried for one MX host, both families together.
pub const ADDRESSES_PER_HOST_MAX: usize = 8;

// The queue.

/// Bytes of one journal segment.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// How long a message is tried.
pub const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(4 * 86_400);
/// Age at which the delay DSN of a message is sent.
pub const WARN_AFTER_DEFAULT: Duration = Duration::from_secs(4 * 3_600);
/// Bytes of the original that a DSN returns.
pub const DSN_ORIGINAL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of free space that are reserved for the system and for outcome records; below it mail is refused with 452.
pub const SPOOL_RESERVE_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of free space above that one below which mail is only taken from users, local programs and `relay.networks`.
pub const USERS_RESERVE_BYTES: u64 = 32 * 1024 * 1024;
/// How often the free space is looked at while nothing is written.
pub const SPACE_INTERVAL: Duration = Duration::from_secs(10);
/// The same interval when less than four times [`SPOOL_RESERVE_BYTES`] is free.
pub const SPACE_SHORT_INTERVAL: Duration = Duration::from_millis(500);
/// Files of the spool that one handle keeps open.
pub const SPOOL_FILES_OPEN_MAX: usize = 16;
/// Bytes of one record; a record that claims to be longer is damaged.
pub const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Recipients of one queued message: each of [`RECIPIENTS_MAX`] may lead to [`ALIAS_TARGETS_MAX`].
pub const ENVELOPE_RECIPIENTS_MAX: usize = 100_000;
/// The highest number of a segment; at 16 MiB each it is reached after 32 PiB.
pub const SEGMENT_NUMBER_MAX: u32 = 2_147_483_648;
/// Numbers that are tried for a new segment if the name is in use.
pub const SEGMENT_TRIES_MAX: u32 = 32;
/// Segments that are named as missing.
pub const SEGMENTS_MISSING_MAX: usize = 16;
/// Bytes of the list of damage that was reported to `admin`.
pub const TOLD_BYTES_MAX: usize = 1024 * 1024;
/// Damaged regions that one start sets aside one by one and reports; the segments of others are kept whole.
pub const DAMAGED_REGIONS_MAX: usize = 1_000;
/// Commits and new segments that may fail in a row before the journal takes nothing more until it is opened again.
pub const JOURNAL_FAILURES_MAX: u32 = 3;
/// Commands that the journal commits together.
pub const JOURNAL_BATCH_COMMANDS_MAX: usize = 4_096;
/// Bytes of messages that the journal commits together.
pub const JOURNAL_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

// DNS.

/// UDP payload announced by EDNS0 (the DNS flag day 2020 figure).
pub const DNS_UDP_BYTES_MAX: u16 = 1_232;
/// Wait for one server's answer before the next is asked.
pub const DNS_SERVER_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait for an answer from any server.
pub const DNS_QUESTION_TIMEOUT: Duration = Duration::from_secs(20);
/// Links of a CNAME chain that are followed.
pub const CNAME_LINKS_MAX: usize = 8;
/// Answers in the cache.
pub const DNS_CACHE_ENTRIES_MAX: usize = 4_096;
/// Bytes of all answers that are remembered.
pub const DNS_CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the texts of one answer that are for a relay to read; past it the answer is of no use.
pub const DNS_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Questions of one message or session that are under way at a time; others wait.
pub const DNS_QUESTIONS_PER_SESSION_MAX: usize = 8;
/// Longest time that an answer is believed.
pub const DNS_TTL_MAX: Duration = Duration::from_secs(86_400);
/// Longest time that the absence of an answer is believed (RFC 2308 section 5).
pub const DNS_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(900);
/// Questions under way at a time.
pub const DNS_QUESTIONS_MAX: usize = 256;
/// Records of one answer that are kept.
pub const DNS_RECORDS_MAX: usize = 64;
/// The same for TXT records, before those are selected that a relay reads.
pub const DNS_TEXTS_MAX: usize = 1_000;
/// Lines about messages that are kept for tools that follow one.
pub const FOLLOWED_LINES_MAX: usize = 256;
/// Bytes of those lines.
pub const FOLLOWED_LINES_BYTES_MAX: usize = 64 * 1024;
/// Bytes of lines that wait for a tool that follows a message; past that it is cut off.
pub const FOLLOWER_BYTES_MAX: usize = 256 * 1024;
/// Tools that follow a message at a time.
pub const FOLLOWERS_MAX: usize = 16;
/// Addresses from which `chopar doctor` announces its own attempts to the daemon.
pub const PROBED_ADDRESSES_MAX: usize = 8;
/// Records of a section of a reply that the commands that look at zones keep.
pub const ZONE_RECORDS_MAX: usize = 200;
/// Servers of a zone that those commands ask.
pub const ZONE_SERVERS_MAX: usize = 6;
/// Questions that they ask at a time.
pub const ZONE_QUESTIONS_AT_ONCE: usize = 12;
/// How long they wait for a server, each time that they ask it.
pub const ZONE_SERVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How often they ask a server.
pub const ZONE_TRIES: usize = 2;
/// How long `chopar dns` surveys the zones of all domains; facts that are not known by then are unknown.
pub const ZONES_TIMEOUT: Duration = Duration::from_secs(15);
/// Domains that it surveys at a time.
pub const ZONES_AT_ONCE: usize = 8;
/// How long the checks of `chopar doctor` may take; facts that are not known by then are unknown.
pub const DOCTOR_TIMEOUT: Duration = Duration::from_secs(13);
/// How long one of them waits for a connection or a reply.
pub const DOCTOR_REPLY_TIMEOUT: Duration = Duration::from_secs(4);
/// Domains that they check in one run.
pub const DOCTOR_DOMAINS_MAX: usize = 20;
/// Bytes that they read of a reply, or of a program's output.
pub const DOCTOR_REPLY_BYTES_MAX: usize = 64 * 1024;
/// Longest time that a failure to get an answer is remembered (RFC 2308 section 7 allows five minutes).
pub const DNS_FAILURE_TTL_MAX: Duration = Duration::from_secs(5);
/// Bytes of a name on the wire, with its length octets (RFC 1035 section 2.3.4).
pub const DNS_NAME_BYTES_MAX: usize = 255;
/// Compression pointers that are followed in one name; there are never more than labels.
pub const DNS_NAME_POINTERS_MAX: usize = 127;
/// Servers that are asked.
pub const DNS_SERVERS_MAX: usize = 8;
/// How often the list of servers is gone through for one question.
pub const DNS_ROUNDS: usize = 2;
/// How long a server that did not answer is asked last.
pub const DNS_SERVER_PENALTY: Duration = Duration::from_secs(30);

// DKIM.

/// Signatures of one message that are verified (RFC 6376 section 6.1 leaves the number to us).
pub const DKIM_SIGNATURES_MAX: usize = 10;
/// Records of one key name that are tried (RFC 6376 section 3.6.2.2 leaves several undefined).
pub const DKIM_KEY_RECORDS_MAX: usize = 4;
/// How far clocks may differ before `t=` counts as in the future or `x=` as in the past.
pub const DKIM_CLOCK_SKEW: Duration = Duration::from_secs(300);
/// Least modulus of an RSA key, in bits (RFC 8301 section 3.2).
pub const DKIM_RSA_BITS_MIN: usize = 1_024;
/// Greatest modulus of an RSA key, in bits.
pub const DKIM_RSA_BITS_MAX: usize = 4_096;
/// Least exponent of an RSA key.
pub const DKIM_RSA_EXPONENT_MIN: u32 = 3;
/// Greatest exponent of an RSA key, which nearly all keys have; the time of a verification grows with the bits of the
/// exponent.
pub const DKIM_RSA_EXPONENT_MAX: u32 = 65_537;
/// Signatures of one message that are verified with a key, DKIM and ARC together: all of DKIM, and the longest chain
/// with its newest message signature. Older message signatures get the rest.
pub const SIGNATURE_CHECKS_MAX: usize = 64;
/// Bytes that are hashed for them; past it no further one is begun.
pub const SIGNED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages whose signatures workers verify at a time; others wait.
pub const VERIFICATIONS_AT_ONCE_MAX: usize = 2;
/// Least modulus of an RSA key that signs without a warning, in bits: RFC 8301 section 3.2 recommends it, and ring
/// signs with it.
pub const DKIM_RSA_SIGNING_BITS_MIN: usize = 2_048;
/// Bytes of a private key file.
pub const DKIM_KEY_FILE_BYTES_MAX: usize = 16 * 1024;
/// Keys that sign for one domain.
pub const DKIM_KEYS_PER_DOMAIN_MAX: usize = 8;

// Authentication-Results.

/// Bytes of one value in Authentication-Results; of a longer one the beginning is shown.
pub const RESULT_VALUE_BYTES_MAX: usize = 320;

// ARC.

/// Sets of one chain (RFC 8617 section 4.2.1); a chain that has as many gets no further one.
pub const ARC_SETS_MAX: u8 = 50;

// DMARC.

/// Names that are asked on the way up from one (RFC 9989 section 4.10).
pub const DMARC_WALK_MAX: usize = 8;
/// Domains of one From field whose policies are looked up; a message of more is refused.
pub const DMARC_AUTHORS_MAX: usize = 4;
/// Addresses of one From field of an unauthenticated client; a message of more is refused.
pub const FROM_ADDRESSES_MAX: usize = 16;

// SRS.

/// Bytes of a secret, at least.
pub const SRS_SECRET_BYTES_MIN: usize = 16;
/// Days for which a bounce can be returned: longer than any host tries to deliver.
pub const SRS_DAYS_MAX: u64 = 21;
/// Layers of a rewritten sender that was rewritten again on its way round.
pub const SRS_UNWRAPS_MAX: usize = 4;
/// Messages to one return address, as long as the daemon runs.
pub const RETURN_USES_MAX: u32 = 100;
/// Return addresses whose uses are counted. Past it, the client network (a /24, of IPv6 a /48) with the most entries
/// makes room.
pub const RETURN_TABLE_ENTRIES_MAX: usize = 16_384;
/// Return addresses in one transaction: a DSN is about one sender's message.
pub const RETURN_RECIPIENTS_MAX: usize = 1;

// SPF.

/// Terms of all records of one check that ask the DNS (RFC 7208 section 4.6.4).
pub const SPF_TERMS_MAX: usize = 10;
/// Look-ups of one check that may find nothing (RFC 7208 section 4.6.4).
pub const SPF_VOID_MAX: usize = 2;
/// Hosts that one term asks for (RFC 7208 section 4.6.4).
pub const SPF_HOSTS_MAX: usize = 10;
/// Bytes of a name that macros make; of a longer one the end counts (RFC 7208 section 7.3).
pub const SPF_NAME_BYTES_MAX: usize = 253;

// Credentials.

/// Iterations of PBKDF2-HMAC-SHA-256 for a new credential.
pub const SCRAM_ITERATIONS: u32 = 600_000;
/// Least iteration count that is accepted in a users file (RFC 7677 section 4).
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;
/// Bytes of a salt that are accepted in a users file.
pub const SCRAM_SALT_BYTES_MAX: usize = 64;
/// Greatest iteration count that is accepted in a users file.
pub const SCRAM_ITERATIONS_MAX: u32 = 10_000_000;
/// Bytes of a login.
pub const LOGIN_BYTES_MAX: usize = 254;
/// Bytes of the nonce of a SCRAM client.
pub const SCRAM_NONCE_BYTES_MAX: usize = 256;
/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Characters of a password that a person makes up, at least; fewer need `--weak`.
pub const PASSWORD_CHARS_MIN: usize = 8;

// Aliases.

/// Links of an alias chain.
pub const ALIAS_DEPTH_MAX: usize = 10;
/// Targets that one address may expand to.
pub const ALIAS_TARGETS_MAX: usize = 100;

// Programs of the operator's.

/// Deliveries into maildirs and programs at a time.
pub const HELPER_DELIVERIES_MAX: usize = 64;
/// Hooks that run at a time.
pub const HELPER_HOOKS_MAX: usize = 32;
/// Bytes of the target of an alias as it is written.
pub const TARGET_BYTES_MAX: usize = 4_096;
/// A program that takes a message.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(300);
/// The hook that judges a message.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// Hooks that are asked at a time: fewer than may run, because a hook whose client has disconnected keeps running.
pub const HOOKS_MAX: usize = 16;
/// Messages that wait for their turn; with [`HOOK_TIMEOUT`] not longer than a client waits (RFC 5321 section
/// 4.5.3.2.6).
pub const HOOKS_WAITING_MAX: usize = 64;
/// How much longer than [`HOOK_TIMEOUT`] the helper may take with a message.
pub const HOOK_GRACE: Duration = Duration::from_secs(10);
/// Bytes of the output of a program that are kept, the last ones; and of a hook, the first ones.
pub const HOOK_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one variable of a hook's environment.
pub const HOOK_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all variables of a hook's environment.
pub const HOOK_FACTS_BYTES_MAX: usize = 128 * 1024;
/// Wait of the helper for the daemon, at each read and write.
pub const HELPER_IO_TIMEOUT: Duration = Duration::from_secs(300);

// Commands.

/// Bytes of a message that a command accepts if it does not know `max_message_size`.
pub const COMMAND_MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of a message body that `sendmail` holds in memory; a longer one is in a temporary file.
pub const SENDMAIL_MEMORY_BYTES_MAX: usize = 1024 * 1024;

// Notifications.

/// Notifications that are being made at a time; others wait.
pub const DSNS_AT_WORK_MAX: usize = 16;
/// Bytes of the original that are read for a DSN; of a longer one only the header is returned.
pub const DSN_READ_BYTES: u32 = 64 * 1024;

// Configuration.

/// Bytes of one file of the configuration folder.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Files and folders in the configuration folder.
pub const CONFIG_ENTRIES_MAX: usize = 10_000;
/// Folders within folders, the configuration folder itself not counted.
pub const CONFIG_DEPTH_MAX: usize = 8;
/// Errors that are collected before reading stops.
pub const CONFIG_ERRORS_MAX: usize = 100;
/// Aliases that `chopar import` takes over.
pub const IMPORT_ALIASES_MAX: usize = 10_000;
/// Domains that `chopar import` takes over.
pub const IMPORT_DOMAINS_MAX: usize = 1_000;
/// Blocks within blocks in files of chasquid, for `chopar import`.
pub const PROTOTEXT_DEPTH_MAX: usize = 16;
/// Variables within the values of variables in main.cf, for `chopar import`.
pub const MAIN_CF_DEPTH_MAX: usize = 20;
/// Bytes of a value of main.cf with its variables put in, for `chopar import`.
pub const MAIN_CF_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Least `max_message_size` (RFC 5321 section 4.5.3.1.7).
pub const MESSAGE_BYTES_MAX_LEAST: u64 = 64 * 1024;
/// Least `max_memory`: the tables and a few sessions.
pub const MEMORY_BYTES_MAX_LEAST: u64 = 8 * 1024 * 1024;

// The log.

/// How long an equal log line about a client is counted and not written again.
pub const LOG_REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Different lines that are counted at a time; others are written each time.
pub const LOG_LINES_COUNTED_MAX: usize = 256;
/// Refusals of a session that are kept until they are logged; further ones are counted with the last.
pub const REFUSALS_KEPT_MAX: usize = 64;
/// Characters of a refused command that the log shows.
pub const SAID_CHARS_MAX: usize = 200;
/// Messages for which the log gives the reason of their wait, each time that a next hop could not be reached; and as
/// many of those that arrive meanwhile.
pub const UNTRIED_LOGGED_MAX: usize = 20;

// The event loop.

/// Connections that wait in the kernel to be accepted: a burst must not cost SYN retries.
pub const LISTEN_BACKLOG: i32 = 1_024;
/// Connections accepted from one socket in one turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;
/// Pause after the system had no descriptor left for a connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Events that follow from actions, in one go; the rest waits for the next turn.
pub const CONSEQUENCES_PER_TURN_MAX: usize = 1_024;
/// Commands of one client that are carried out in one turn; the rest waits until their replies are out.
pub const REQUESTS_PER_TURN_MAX: usize = 100;
/// Bytes that are hashed, canonicalized or parsed in one turn, whatever peers send.
pub const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Header fields and list elements that are examined in one turn, whatever peers send.
pub const TURN_FIELDS_MAX: usize = 100_000;
/// Names, addresses and DNS answers that are examined in one turn, whatever peers send.
pub const TURN_NAMES_MAX: usize = 50_000;
/// Wait for a peer to take the pending output when its connection is closed.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a closed connection is read and discarded, so that no reset destroys the last reply.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are discarded on a closed connection.
pub const LINGER_BYTES_MAX: usize = 64 * 1024;
/// Closed connections that linger at a time; for one more the oldest is dropped, refused clients and readers of pages
/// before sessions.
pub const LINGERING_MAX: usize = 1_024;
/// How long the relay takes to end once it is asked to.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// DNS sockets at a time.
pub const DNS_SOCKETS_MAX: usize = 512;
/// Accounts of this machine whose DSNs go to `admin`; those further down in /etc/passwd are unknown.
pub const ACCOUNTS_MAX: usize = 4_096;
/// Bytes of the name of an account.
pub const ACCOUNT_NAME_BYTES_MAX: usize = 32;
/// Interval of status notifications to systemd, if it listens; shorter if WatchdogSec= of the unit is short.
pub const SUPERVISOR_INTERVAL: Duration = Duration::from_secs(10);
/// How often /etc/resolv.conf is looked at.
pub const RESOLV_CONF_INTERVAL: Duration = Duration::from_secs(5);
/// How often the drop folder is looked at.
pub const DROP_FOLDER_INTERVAL: Duration = Duration::from_secs(10);
/// Names of the machine that a shell is given to complete a word with.
pub const COMPLETION_VALUES_MAX: usize = 1_000;
/// How long they are looked for.
pub const COMPLETION_TIME: Duration = Duration::from_secs(1);
/// Connected queue tools of users who are not operators.
pub const QUEUE_READERS_MAX: usize = 8;
/// Those of one user.
pub const QUEUE_READERS_PER_USER_MAX: usize = 2;
/// Files of the drop folder that are sent at a time; a user may start another one while fewer of that user's are in
/// progress than half of the free places.
pub const DROP_VISITS_MAX: usize = 16;
/// Files of the drop folder that were sent and cannot be removed; past it, no others are sent.
pub const DROP_STUCK_MAX: usize = 16;
/// Files of one user that one look at the drop folder finds; the users' files are taken in turn.
pub const DROP_FILES_PER_USER_MAX: usize = 256;
/// Users whose files one look at the drop folder finds.
pub const DROP_USERS_MAX: usize = 1_024;
/// Files in one message to `admin` about files that were set aside.
pub const SET_ASIDE_LINES_MAX: usize = 100;
/// How often `admin` gets a message about files of the drop folder that were set aside.
pub const SET_ASIDE_INTERVAL: Duration = Duration::from_secs(3_600);
/// Wait of the drop folder for one reply of the relay: longer than a hook may take.
pub const DROP_REPLY_TIMEOUT: Duration = Duration::from_secs(120);
/// Wait before a file of the drop folder that was deferred is looked at again; it doubles each time.
pub const DROP_RETRY_MIN: Duration = Duration::from_secs(10);
/// The longest wait before a file of the drop folder that was deferred is looked at again.
pub const DROP_RETRY_MAX: Duration = Duration::from_secs(1_800);
/// Deferred files of the drop folder whose intervals are remembered; others are tried at each look.
pub const DROP_TRIES_MAX: usize = 4_096;
/// How often the certificate files are looked at.
pub const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(60);
/// Interval at which a problem of a certificate is logged again.
pub const CERTIFICATE_WARNING_INTERVAL: Duration = Duration::from_secs(86_400);
/// Last good certificates that are kept for the next start.
pub const CERTIFICATES_KEPT_MAX: usize = 64;
/// How long a self-signed certificate lasts.
pub const SELF_SIGNED_LIFETIME: Duration = Duration::from_secs(730 * 86_400);
/// How long before its end another is made.
pub const SELF_SIGNED_RENEWAL: Duration = Duration::from_secs(30 * 86_400);

// Certificates by ACME.

/// Names of one certificate, and authorizations of one order: as many as large CAs take.
pub const ACME_NAMES_MAX: usize = 100;
/// Certificates that are obtained and renewed.
pub const ACME_CERTIFICATES_MAX: usize = 64;
/// Bytes of a URL of an ACME server.
pub const ACME_URL_BYTES_MAX: usize = 2_048;
/// Bytes of the head of a response of an ACME server.
pub const ACME_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the body of a response of an ACME server.
pub const ACME_RESPONSE_BYTES_MAX: usize = 256 * 1024;
/// Interim responses (RFC 9110 section 15.2) of an ACME server before the one that counts.
pub const ACME_INTERIM_MAX: usize = 8;
/// Characters of a server's text that are shown.
pub const ACME_TEXT_CHARS_MAX: usize = 500;
/// How often a request is sent because its nonce was refused (RFC 8555 section 6.5).
pub const ACME_NONCE_TRIES: u32 = 20;
/// How often a request is sent to a server that cannot be reached or fails.
pub const ACME_TRIES: u32 = 3;
/// One request to an ACME server, from the handshake to the end of the response.
pub const ACME_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The shortest pause before an authorization or an order is looked at again.
pub const ACME_POLL_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest such pause, whatever Retry-After says.
pub const ACME_POLL_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an authorization or an order may take.
pub const ACME_POLL_TIMEOUT: Duration = Duration::from_secs(600);
/// The first pause after a renewal that failed; each following one is twice as long.
pub const ACME_RETRY_PAUSE_MIN: Duration = Duration::from_secs(3_600);
/// The longest pause between renewals that fail.
pub const ACME_RETRY_PAUSE_MAX: Duration = Duration::from_secs(86_400);
/// The shortest pause before a CA is asked again when to renew (RFC 9773 section 4.3).
pub const ACME_WINDOW_PAUSE_MIN: Duration = Duration::from_secs(3_600);
/// The longest such pause.
pub const ACME_WINDOW_PAUSE_MAX: Duration = Duration::from_secs(86_400);
/// How long the servers of a zone may take to show a record of DNS-01.
pub const ACME_DNS_TIMEOUT: Duration = Duration::from_secs(600);
/// How long one run of hooks/dns-01 may take.
pub const ACME_HOOK_TIMEOUT: Duration = Duration::from_secs(300);
/// Connections that the listeners for challenges serve at a time; CAs connect from several places. For one more, the
/// oldest of the site with the most connections is closed.
pub const ACME_VISITORS_MAX: usize = 16;
/// How long one connection to a listener for challenges may take.
pub const ACME_VISIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the daemon leaves a certificate alone that a command is obtaining.
pub const ACME_BUSY_PAUSE: Duration = Duration::from_secs(60);
/// The shortest pause before the addresses of a name that does not lead here yet are looked up again; it grows to an
/// eighth of the time that was waited.
pub const ACME_ARRIVAL_PAUSE_MIN: Duration = Duration::from_secs(15);
/// The longest such pause.
pub const ACME_ARRIVAL_PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long a certificate waits for a name that leads elsewhere before it is ordered anyway: a proxy that forwards
/// connections to this machine cannot be seen from here.
pub const ACME_ARRIVAL_PATIENCE: Duration = Duration::from_secs(3_600);
/// How long one check of where the names of a certificate lead takes; facts that are not known by then are unknown.
pub const ACME_LOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the file with the pauses of orders.
pub const ACME_PAUSES_BYTES_MAX: u64 = 256 * 1024;
/// The longest time between two checks for due certificates, because the clock may be set.
pub const ACME_LOOK_PAUSE_MAX: Duration = Duration::from_secs(600);

/// Bytes of the head of a request to a page.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header fields of a request to a page.
pub const HTTP_FIELDS_MAX: usize = 64;
/// Bytes of the body of a request, if one is accepted at all.
pub const HTTP_BODY_BYTES_MAX: usize = 16 * 1024;
/// Connections to `listen.https` at a time; for one more the oldest is closed of the site that has most.
pub const WEB_VISITS_MAX: usize = 64;
/// Connections to `listen.https` at a time of one client, by its address or IPv6 network; one more is closed at once.
pub const WEB_VISITS_OF_CLIENT_MAX: usize = 8;
/// Connections to the status page at a time; for one more the oldest is closed.
pub const STATUS_VISITS_MAX: usize = 32;
/// How often the state of the relay is looked at for the status page.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long the request to the status page may take to come.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// Next hops, and messages, that the status page names.
pub const STATUS_ROWS_MAX: usize = 10;
/// Newest events that the status page shows.
pub const STATUS_EVENTS_MAX: usize = 50;
/// Bytes of an event, or of a reason, on the status page; a longer one is cut.
pub const STATUS_EVENT_BYTES_MAX: usize = 512;

// Reports of others.

/// Bytes of a message that is read as a report.
pub const REPORT_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that the archives of one message may be unpacked.
pub const REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many times as long as its archive a report may be; the first 256 KiB are free.
pub const REPORT_RATIO_MAX: usize = 200;
/// MIME parts of a message in which a report is looked for.
pub const REPORT_PARTS_MAX: usize = 32;
/// How deep MIME parts may be nested.
pub const REPORT_PARTS_DEPTH_MAX: usize = 5;
/// XML elements of a report.
pub const REPORT_ELEMENTS_MAX: usize = 1_000_000;
/// How deep XML elements of a report may be nested.
pub const REPORT_DEPTH_MAX: usize = 16;
/// Bytes of text in one XML element of a report.
pub const REPORT_ELEMENT_BYTES_MAX: usize = 16 * 1024;
/// Rows of a DMARC report.
pub const REPORT_ROWS_MAX: usize = 20_000;
/// Policies of a TLS report.
pub const REPORT_POLICIES_MAX: usize = 1_000;
/// Served domains that one report may be about.
pub const REPORT_DOMAINS_MAX: usize = 16;
/// Messages, or sessions, that one row of a report may count.
pub const REPORT_COUNT_MAX: u64 = 1_000_000_000;
/// Characters of a name or an id of a report that are kept.
pub const REPORT_TEXT_CHARS_MAX: usize = 128;
/// How long ago a report may begin.
pub const REPORT_AGE_MAX: Duration = Duration::from_secs(35 * 86_400);
/// How many days are kept.
pub const REPORT_DAYS_MAX: usize = 400;
/// Organisations whose reports about one day are counted separately; others share one place.
pub const REPORT_REPORTERS_MAX: usize = 32;
/// How long `chopar report` looks up the names of hosts, all of them together.
pub const REPORT_NAMES_TIMEOUT: Duration = Duration::from_secs(4);
/// The number of those organisations that may have names under the same two labels, such as example.com.
pub const REPORT_NAMES_MAX: usize = 4;
/// Reports of one organisation about one domain and one day.
pub const REPORT_IDS_MAX: usize = 64;
/// Sources of one organisation, one domain and one day that are kept apart.
pub const REPORT_SOURCES_MAX: usize = 256;
/// Sources of one domain that are kept apart in all days.
pub const REPORT_ENTRIES_MAX: usize = 10_000;
/// Bytes of the file with the counts about one domain.
pub const REPORT_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of the summary that the status page shows.
pub const REPORT_SUMMARY_BYTES_MAX: usize = 256 * 1024;
/// Sources that a summary names.
pub const REPORT_SUMMARY_SOURCES_MAX: usize = 12;
/// Domains that the status page shows.
pub const REPORT_SUMMARY_DOMAINS_MAX: usize = 20;
/// Days that the status page shows.
pub const REPORT_SUMMARY_DAYS: usize = 30;
