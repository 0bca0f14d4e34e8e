//! The durable queue: a journal of records with group commit.
//!
//! Nothing here names a file, a clock or a thread. [`Journal`] turns commands into writes on a [`Disk`] and reports
//! when they are durable. The shell runs it on a thread over real files, the simulator over a [`MemoryDisk`].
//!
//! | on the disk | means | a crash leaves | who cleans it |
//! | --- | --- | --- | --- |
//! | `body/ID.part` | a large message is being received | a file nobody was promised | recovery removes it |
//! | `body/ID`, no record | its record is being written | a file that may have been promised | recovery sets it aside |
//! | message record | accepted; 250 may be sent | a torn record at the tail | recovery cuts it |
//! | message, outcome records | some recipients are settled | — | — |
//! | two message records of one id | copied forward | both | the later one wins |
//! | done record | nothing is owed | `body/ID`, dead segments | recovery, then the journal |

mod codec;
mod disk;
mod frame;
mod ids;
mod index;
mod journal;
mod memory_disk;
mod reader;
mod record;
mod recovery;

pub use disk::{DirEntry, Disk, DiskError, DiskRead, SpoolFile, SpoolFolder};
pub use frame::Location;
pub use ids::IdSource;
pub use index::{HopId, Index, Phase, Queued, RecipientState, Warned};
pub use journal::{Journal, JournalCommand, JournalCompletion, JournalError, Ticket};
pub use memory_disk::{MemoryDisk, Operation};
pub use reader::{Part, ReadContent, ReadError, read, read_unfinished};
pub use record::{DeliveryResult, MessageBody, MessageRecord, OutcomeRecord, Record};
pub use recovery::{
    Aside, Damage, DamageKind, Missing, OpenError, OpenReport, Recovered, TipState, Torn,
};
