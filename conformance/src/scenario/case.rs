//! A scenario as a case.

use std::collections::BTreeSet;

use harness::topology::{Impairment, Topology};

use super::{Action, Scenario};
use crate::case::Case;
use crate::catalogue::{Req, catalogue};

impl Scenario {
    /// The id of its case.
    pub fn id(&self) -> String {
        format!("scenario::{}", self.name)
    }

    /// The rows that its expectations cite.
    pub fn requirements(&self) -> Vec<Req> {
        let cited = self.expectations.iter().flat_map(|e| e.requirements.iter());
        let cited: BTreeSet<Req> = cited.copied().collect();
        cited.into_iter().collect()
    }

    /// The network to build: links that steps change are relayed in userspace.
    pub(crate) fn network(&self) -> Topology {
        let mut topology = self.topology.clone();
        for step in &self.steps {
            if let Action::Link { link, .. } = &step.action
                && let Some(found) = topology.links.iter_mut().find(|l| l.name == *link)
            {
                found.impair.get_or_insert_with(Impairment::default);
            }
        }
        topology
    }

    /// Makes it a case. Cases live as long as the program, and so does a scenario that became one.
    pub fn into_case(self) -> &'static Case {
        let scenario: &'static Scenario = Box::leak(Box::new(self));
        let requirements = scenario.requirements();
        let roles: BTreeSet<&'static str> = requirements
            .iter()
            .filter_map(|requirement| catalogue().get(requirement.id()))
            .flat_map(|row| row.role.iter().map(String::as_str))
            .collect();
        let settings: Vec<(&'static str, &'static str)> = scenario
            .settings
            .iter()
            .map(|(node, keys)| (node.as_str(), &*keys.to_string().leak()))
            .collect();
        Box::leak(Box::new(Case {
            id: scenario.id().leak(),
            title: &scenario.title,
            topology: &scenario.topology.name,
            settings: settings.leak(),
            roles: roles.into_iter().collect::<Vec<_>>().leak(),
            requirements: requirements.leak(),
            timeout: scenario.timeout,
            start: scenario.start,
            scenario: Some(scenario),
            ..Case::BASE
        }))
    }
}
