//! Reasons for refusing a message that is meant as a report.

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ReportRefusal {
    /// It is too long, packed or unpacked.
    TooLong,
    /// It unpacks to far more than it is.
    Ratio,
    /// It is not an archive of one file, or contradicts itself.
    Archive,
    /// An archive in an archive.
    Nested,
    /// It is not XML, or not whole.
    Xml,
    /// It has a document type or a custom entity.
    Entity,
    /// Elements in elements in elements, or more rows than there may be.
    TooMany,
    Json,
    /// Something is missing that a report has.
    Schema,
    /// It is about a time too far away.
    Date,
    /// It is about domains that are not served here.
    Foreign,
    /// Its organisation has used up its share of reports for that day.
    Share,
}

impl ReportRefusal {
    /// Every variant, in the order in which they are listed.
    pub const ALL: &[Self] = &[
        Self::TooLong,
        Self::Ratio,
        Self::Archive,
        Self::Nested,
        Self::Xml,
        Self::Entity,
        Self::TooMany,
        Self::Json,
        Self::Schema,
        Self::Date,
        Self::Foreign,
        Self::Share,
    ];

    /// The word under which it is counted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Ratio => "ratio",
            Self::Archive => "archive",
            Self::Nested => "nested",
            Self::Xml => "xml",
            Self::Entity => "entity",
            Self::TooMany => "too-many",
            Self::Json => "json",
            Self::Schema => "schema",
            Self::Date => "date",
            Self::Foreign => "foreign",
            Self::Share => "share",
        }
    }
}

/// Why an attachment is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) refusal: ReportRefusal,
    /// Whether its own text says that it is a report.
    pub(super) is_report: bool,
}

impl From<ReportRefusal> for Fault {
    fn from(refusal: ReportRefusal) -> Self {
        Self {
            refusal,
            is_report: false,
        }
    }
}
