//! Names for the namespaces of a lab, under /run/netns.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::state::{Name, State};
use super::wrong;
use crate::lab::{Lab, LabError};

/// The names that the namespaces get, with the marks by which they are known again. If `visible`, the host must not use
/// them yet: what stands there is somebody else's, and must never be taken for something of this lab.
pub(super) fn names(lab: &Lab, name: &str, visible: bool) -> Result<Vec<Name>, LabError> {
    let mut names = Vec::new();
    for node in &lab.topology().nodes {
        let namespace = lab.namespace(&node.name)?;
        let metadata = fs::metadata(format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd()))
            .map_err(|error| LabError::kernel("looking at a namespace", error))?;
        let path = Path::new("/run/netns").join(format!("{name}-{}", node.name));
        if visible && fs::symlink_metadata(&path).is_ok() {
            return Err(taken(&node.name, &path));
        }
        names.push(Name {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
        });
    }
    Ok(names)
}

/// Puts the names under /run/netns; false if an ordinary user has no place for them.
pub(super) fn give_names(lab: &Lab, state: &State, root: bool) -> Result<bool, LabError> {
    let failed = |what: String, error: io::Error| LabError::kernel(what, error);
    let none = None::<&str>;
    if root {
        fs::create_dir_all("/run/netns")
            .map_err(|error| failed("making /run/netns".to_owned(), error))?;
    } else {
        // In our own mount namespace, over the host's directory, where there is one.
        let options = Some("mode=0755");
        if mount(
            Some("tmpfs"),
            "/run/netns",
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .is_err()
        {
            return Ok(false);
        }
    }
    for (node, name) in lab.topology().nodes.iter().zip(&state.names) {
        let what = format!(
            "giving the namespace of `{}` the name {}",
            node.name,
            name.path.display()
        );
        File::options()
            .write(true)
            .create_new(true)
            .open(&name.path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => taken(&node.name, &name.path),
                _ => failed(what.clone(), error),
            })?;
        let source = format!(
            "/proc/self/fd/{}",
            lab.namespace(&node.name)?.as_fd().as_raw_fd()
        );
        mount(
            Some(source.as_str()),
            &name.path,
            none,
            MsFlags::MS_BIND,
            none,
        )
        .map_err(|errno| failed(what, errno.into()))?;
    }
    Ok(true)
}

fn taken(node: &str, path: &Path) -> LabError {
    wrong(
        format!(
            "giving the namespace of `{node}` the name {}: that name is taken",
            path.display()
        ),
        "choose another name for the lab, or remove it with `ip netns del`",
    )
}
