//! Configuration files and arguments from templates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::topology::{Node, Topology};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::adapter::{Adapter, AdapterError, Program};

/// What a program is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Arguments.
    pub arguments: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// Files of the node.
    pub files: BTreeMap<PathBuf, String>,
}

/// Renders a program's templates for a node. Templates see `node` (its name), `settings` (the node's settings in the
/// topology), `interfaces` (each with `name`, `link`, `addresses`, `neighbour`) and `addresses`.
///
/// # Errors
/// Which template is wrong, and where.
pub fn render(
    adapter: &Adapter,
    program: &Program,
    topology: &Topology,
    node: &Node,
) -> Result<Rendered, AdapterError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let values = context! {
        node => node.name.as_str(),
        settings => Value::from(Serde(&node.settings)),
        interfaces => interfaces(topology, &node.name),
        addresses => topology.addresses(&node.name).map(|net| net.addr().to_string()).collect::<Vec<_>>(),
    };
    let wrong = |file: String, error: minijinja::Error| {
        AdapterError(format!("{file}: for the node {}: {error:#}", node.name))
    };
    let inline = |text: &str| {
        environment
            .render_str(text, &values)
            .map_err(|error| wrong(format!("adapter {}", adapter.name), error))
    };
    let mut files = BTreeMap::new();
    for (path, template) in &program.files {
        let file = adapter.folder.join(template);
        let text = std::fs::read_to_string(&file)
            .map_err(|error| AdapterError(format!("{}: {error}", file.display())))?;
        let text = environment
            .render_named_str(&file.display().to_string(), &text, &values)
            .map_err(|error| wrong(file.display().to_string(), error))?;
        files.insert(path.clone(), text);
    }
    Ok(Rendered {
        arguments: program
            .arguments
            .iter()
            .map(|text| inline(text))
            .collect::<Result<_, _>>()?,
        environment: program
            .environment
            .iter()
            .map(|(name, text)| Ok((name.clone(), inline(text)?)))
            .collect::<Result<_, _>>()?,
        files,
    })
}

fn interfaces(topology: &Topology, node: &str) -> Vec<Value> {
    let links = topology
        .links
        .iter()
        .filter_map(|link| Some((link, &link.ends[link.end(node)?], link.end(node)?)));
    links
        .map(|(link, end, at)| {
            let addresses: Vec<String> = end.addresses.iter().map(ToString::to_string).collect();
            context! { name => end.interface.as_str(), link => link.name.as_str(), addresses, neighbour => link.ends[1 - at].node.as_str() }
        })
        .collect()
}
