//! What a case needs before its lab is built: whether it applies, and its topology with all settings.

use std::collections::{BTreeMap, BTreeSet};

use harness::topology::Topology;

use super::{Options, Run};
use crate::case::Case;
use crate::drive::Stop;

/// Why a case does not apply to this implementation and edition, if so.
pub(super) fn not_applicable(run: &Run<'_>) -> Option<String> {
    let (case, options) = (run.case, run.options);
    if !case.editions.contains(&options.edition) {
        return Some(format!("it cannot judge edition {}", options.edition));
    }
    let features = match case.network() {
        Ok(topology) => claimed(run, &topology),
        Err(_) => return None,
    };
    if let Some(feature) = case
        .features
        .iter()
        .find(|feature| !features.contains(**feature))
    {
        return Some(format!(
            "the implementation does not claim the feature {feature}"
        ));
    }
    let unsettable = case
        .timers
        .iter()
        .find(|timer| !timer_is_settable(run, timer));
    unsettable.filter(|_| !options.slow).map(|timer| {
        format!(
            "the timer {} cannot be set; --slow waits for its {:?}",
            timer.name, timer.text
        )
    })
}

fn timer_is_settable(run: &Run<'_>, timer: &crate::case::Timer) -> bool {
    let Ok(topology) = run.case.network() else {
        return false;
    };
    let role = topology
        .node(timer.node)
        .and_then(|node| node.role.as_deref());
    role.and_then(|role| run.options.implementation.program(role))
        .is_some_and(|(_, program)| program.timers.contains(timer.name))
}

pub(super) fn claimed(run: &Run<'_>, topology: &Topology) -> BTreeSet<String> {
    run.options.implementation.features(
        topology
            .nodes
            .iter()
            .filter_map(|node| node.role.as_deref()),
    )
}

pub(super) fn prepared_topology(case: &Case, options: &Options) -> Result<Topology, Stop> {
    let mut topology = case
        .network()
        .map_err(|error| Stop::Untestable(error.to_string()))?;
    // Which texts a program follows is for its template to say; settings of the topology or the case come first.
    for node in topology.nodes.clone() {
        let program = node
            .role
            .as_deref()
            .and_then(|role| options.implementation.program(role));
        if program.is_some() && node.settings.get("edition").is_none() {
            let setting = format!("edition: {}", options.edition);
            crate::drive::merge_settings(&mut topology, &node.name, &setting)?;
        }
    }
    for (node, settings) in case.settings {
        crate::drive::merge_settings(&mut topology, node, settings)?;
    }
    for timer in case.timers {
        let role = topology
            .node(timer.node)
            .and_then(|node| node.role.clone())
            .unwrap_or_default();
        let settable = options
            .implementation
            .program(&role)
            .is_some_and(|(_, program)| program.timers.contains(timer.name));
        if settable {
            let setting = format!("{}: {}ms", timer.name, timer.short.as_millis());
            crate::drive::merge_settings(&mut topology, timer.node, &setting)?;
        }
    }
    Ok(topology)
}

pub(super) fn changed_settings(
    case: &Case,
    topology: &Topology,
) -> BTreeMap<String, serde_json::Value> {
    let changed = case
        .settings
        .iter()
        .map(|(node, _)| *node)
        .chain(case.timers.iter().map(|timer| timer.node));
    changed
        .filter_map(|node| Some((node.to_owned(), topology.node(node)?.settings.clone())))
        .collect()
}
