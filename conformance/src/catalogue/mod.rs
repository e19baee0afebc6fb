//! The requirement catalogue: what the RFCs ask, as data (`conformance/requirements/`).

mod coverage;
mod id;
mod load;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use coverage::{Coverage, Covered, Figures, RequirementCoverage, coverage};
pub use id::Req;
pub use load::{CatalogueError, catalogue, load};

/// A document: an RFC by number or a draft by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Document {
    /// An RFC.
    Rfc(u16),
    /// An Internet draft with its revision.
    Draft(String),
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Document::Rfc(number) => write!(f, "RFC {number}"),
            Document::Draft(name) => f.write_str(name),
        }
    }
}

/// How strongly a text asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// MUST or MUST NOT.
    Must,
    /// SHOULD or SHOULD NOT.
    Should,
    /// MAY: never fails for absence, only for bad form.
    May,
    /// Required by context, field layout or timer, without a keyword.
    Behaviour,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::May => "may",
            Level::Behaviour => "behaviour",
        })
    }
}

/// Whether a requirement can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It can.
    Testable,
    /// It cannot by one black box; `reason` says why.
    UntestableBlackBox,
    /// It binds the inside of a program.
    ImplementationInternal,
}

/// Whether an observation decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Judging {
    /// The expectation decides.
    #[serde(rename = "judge")]
    Judge,
    /// The expectation decides, and what was seen is logged.
    #[serde(rename = "judge+record")]
    JudgeAndRecord,
    /// Only logged: the text is silent, optional or contradicts itself.
    #[serde(rename = "record")]
    Record,
    /// Not observable.
    #[serde(rename = "n/a")]
    NotApplicable,
}

/// How to see a requirement from outside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Observe {
    /// What a tester does.
    pub stimulus: String,
    /// What is then seen.
    pub expect: String,
}

/// A section of a document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The document.
    pub rfc: Document,
    /// Its section number.
    pub section: String,
}

/// Where another edition treats the same point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Successor {
    /// What changed (`same`, `changed`, `removed`, ...).
    pub change: String,
    /// Where.
    #[serde(default)]
    pub refs: Vec<Reference>,
    /// In a sentence.
    #[serde(default)]
    pub note: Option<String>,
}

/// One row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Stable name, never used again.
    pub id: String,
    /// The document.
    pub rfc: Document,
    /// Its section number.
    pub section: String,
    /// How strongly it asks.
    pub level: Level,
    /// Which kind of keyword the text uses: `rfc2119`, `lowercase`, `none`.
    pub keyword: String,
    /// Whom it binds.
    pub role: Vec<String>,
    /// `core`, or the feature that an implementation may not claim.
    pub feature: String,
    /// 1 base, 2 optional, 3 peripheral.
    pub tier: u8,
    /// The requirement, paraphrased.
    pub statement: String,
    /// Whether it can be seen from outside.
    pub status: Status,
    /// Why it cannot.
    #[serde(default)]
    pub reason: Option<String>,
    /// How it is seen.
    #[serde(default)]
    pub observe: Option<Observe>,
    /// Whether the observation decides.
    pub verdict: Judging,
    /// Byte vectors that show it.
    #[serde(default)]
    pub vectors: Vec<String>,
    /// The other edition.
    pub successor: Successor,
    /// A note on the text.
    #[serde(default)]
    pub remark: Option<String>,
}

impl Requirement {
    /// Whether a case can pass or fail on it.
    pub fn is_judgeable(&self) -> bool {
        self.status == Status::Testable
            && matches!(self.verdict, Judging::Judge | Judging::JudgeAndRecord)
    }

    /// "RFC 6830 6.1.5".
    pub fn cite(&self) -> String {
        format!("{} {}", self.rfc, self.section)
    }
}

/// A judgeable requirement that the suite leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// The requirement.
    pub id: String,
    /// Why it is left out.
    pub reason: String,
}

/// All rows, with the words that they may use.
#[derive(Debug, Clone)]
pub struct Catalogue {
    requirements: BTreeMap<String, Requirement>,
    exclusions: BTreeMap<String, String>,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    roles: BTreeMap<String, String>,
    features: BTreeMap<String, String>,
}

impl Catalogue {
    /// The row of an id.
    pub fn get(&self, id: &str) -> Option<&Requirement> {
        self.requirements.get(id)
    }

    /// All rows by id.
    pub fn iter(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.values()
    }

    /// Why a judgeable row is left out, where it is.
    pub fn exclusion(&self, id: &str) -> Option<&str> {
        self.exclusions.get(id).map(String::as_str)
    }

    /// The title of a section.
    pub fn section_title(&self, document: &Document, section: &str) -> Option<&str> {
        let document = match document {
            Document::Rfc(number) => number.to_string(),
            Document::Draft(name) => name.clone(),
        };
        self.sections
            .get(&document)?
            .get(section)
            .map(String::as_str)
    }

    /// Known roles and what they are called.
    pub fn roles(&self) -> &BTreeMap<String, String> {
        &self.roles
    }

    /// Known features and what they are.
    pub fn features(&self) -> &BTreeMap<String, String> {
        &self.features
    }
}
