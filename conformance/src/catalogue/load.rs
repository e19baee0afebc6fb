//! Reads and validates the catalogue.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use super::{Catalogue, Document, Exclusion, Judging, Requirement, Status};

const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/catalogue_sources.rs"));

/// What is wrong with the catalogue's files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A file is not of the form that it should have.
    #[error("conformance/requirements/{file}: {problem}")]
    Form {
        /// The file.
        file: String,
        /// With line and column.
        problem: String,
    },
    /// Rows contradict each other or use unknown words.
    #[error("the requirement catalogue is not sound:\n{}", .0.join("\n"))]
    Unsound(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    requirements: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vocabulary {
    roles: BTreeMap<String, String>,
    features: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exclusions {
    exclusions: Vec<Exclusion>,
}

/// The catalogue of this build.
///
/// # Panics
/// When the files that the program was built with are not sound, which the crate's tests rule out.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| match load(SOURCES) {
        Ok(catalogue) => catalogue,
        Err(error) => panic!("{error}"),
    })
}

/// Reads `(file name, text)` pairs.
///
/// # Errors
/// All that is wrong with them, not only the first thing.
pub fn load(sources: &[(&str, &str)]) -> Result<Catalogue, CatalogueError> {
    let mut catalogue = Catalogue {
        requirements: BTreeMap::new(),
        exclusions: BTreeMap::new(),
        sections: BTreeMap::new(),
        roles: BTreeMap::new(),
        features: BTreeMap::new(),
    };
    let mut problems = Vec::new();
    for (file, text) in sources {
        match *file {
            "sections.yaml" => catalogue.sections = read(file, text)?,
            "vocabulary.yaml" => {
                let words: Vocabulary = read(file, text)?;
                (catalogue.roles, catalogue.features) = (words.roles, words.features);
            }
            "exclusions.yaml" => {
                let list: Exclusions = read(file, text)?;
                for exclusion in list.exclusions {
                    if catalogue
                        .exclusions
                        .insert(exclusion.id.clone(), exclusion.reason)
                        .is_some()
                    {
                        problems.push(format!("{file}: {} is excluded twice", exclusion.id));
                    }
                }
            }
            _ => {
                let rows: Rows = read(file, text)?;
                for row in rows.requirements {
                    let id = row.id.clone();
                    if catalogue.requirements.insert(id.clone(), row).is_some() {
                        problems.push(format!(
                            "{file}: the id {id} is there twice; an id is never used again"
                        ));
                    }
                }
            }
        }
    }
    for row in catalogue.iter() {
        check_row(&catalogue, row, &mut problems);
    }
    for id in catalogue.exclusions.keys() {
        match catalogue.get(id) {
            None => problems.push(format!("exclusions.yaml: {id} is not in the catalogue")),
            Some(row) if !row.is_judgeable() => {
                problems.push(format!(
                    "exclusions.yaml: {id} is not judgeable anyway; remove it"
                ));
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        Ok(catalogue)
    } else {
        Err(CatalogueError::Unsound(problems))
    }
}

fn read<T: for<'a> Deserialize<'a>>(file: &str, text: &str) -> Result<T, CatalogueError> {
    serde_saphyr::from_str(text).map_err(|error| CatalogueError::Form {
        file: file.to_owned(),
        problem: error.to_string(),
    })
}

fn check_row(catalogue: &Catalogue, row: &Requirement, problems: &mut Vec<String>) {
    let mut problem = |text: String| problems.push(format!("{}: {text}", row.id));
    let mut cited = vec![(&row.rfc, row.section.as_str())];
    cited.extend(
        row.successor
            .refs
            .iter()
            .map(|reference| (&reference.rfc, reference.section.as_str())),
    );
    for (document, section) in cited {
        if catalogue.section_title(document, section).is_none() {
            problem(format!(
                "sections.yaml has no section {section} of {document}"
            ));
        }
    }
    for role in &row.role {
        if !catalogue.roles.contains_key(role) {
            problem(format!("vocabulary.yaml has no role {role}"));
        }
    }
    if !catalogue.features.contains_key(&row.feature) {
        problem(format!("vocabulary.yaml has no feature {}", row.feature));
    }
    if !(1..=3).contains(&row.tier) {
        problem(format!("tier {} is not one of 1, 2, 3", row.tier));
    }
    let testable = row.status == Status::Testable;
    if testable != (row.verdict != Judging::NotApplicable) {
        problem("a testable row has a verdict, any other has n/a".to_owned());
    }
    if testable && row.observe.is_none() {
        problem("a testable row says how it is observed".to_owned());
    }
    if !testable && row.reason.is_none() {
        problem("a row that is not testable gives its reason".to_owned());
    }
    if let Document::Rfc(number) = row.rfc
        && !row.id.starts_with(&format!("rfc{number}-"))
    {
        problem(format!("the id does not begin with rfc{number}-"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sound() {
        let catalogue = load(SOURCES).unwrap();
        assert!(catalogue.iter().count() >= 503);
    }

    #[test]
    fn every_problem_of_a_row_is_said() {
        let row = "requirements:\n- id: rfc6830-x\n  rfc: 6830\n  section: '99'\n  level: must\n  keyword: none\n  role: [cook]\n  \
                   feature: soup\n  tier: 4\n  statement: S.\n  status: testable\n  verdict: judge\n  successor: {change: same}\n";
        let words = "roles: {itr: I}\nfeatures: {core: c}\n";
        let CatalogueError::Unsound(problems) =
            load(&[("a.yaml", row), ("vocabulary.yaml", words)]).unwrap_err()
        else {
            panic!("a row of the right form is judged by its content");
        };
        for word in [
            "section 99",
            "role cook",
            "feature soup",
            "tier 4",
            "observed",
        ] {
            assert!(
                problems.iter().any(|problem| problem.contains(word)),
                "{word} in {problems:?}"
            );
        }
        assert!(matches!(
            load(&[("a.yaml", row), ("b.yaml", row), ("vocabulary.yaml", words)]),
            Err(CatalogueError::Unsound(problems)) if problems.iter().any(|problem| problem.contains("twice"))
        ));
    }
}
