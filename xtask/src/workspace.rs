//! Where the workspace is and what is in it, as `cargo metadata` tells.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The workspace that this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// Sorted by name.
    pub(crate) members: Vec<Member>,
}

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The folder that holds its `Cargo.toml`.
    pub(crate) dir: PathBuf,
    /// Whether it goes to crates.io.
    pub(crate) published: bool,
    pub(crate) targets: Vec<Target>,
}

/// One thing that cargo builds of a crate.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `bin`, `example`, `test`, `bench`, …
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
}

impl Member {
    pub(crate) fn targets_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Target> {
        self.targets.iter().filter(move |target| target.kind == kind)
    }
}

impl Workspace {
    /// Asks cargo, from the folder that `xtask` lies in, so that it works from any folder. `cargo run` names that
    /// folder; what was compiled in may be that of another clone that shares the target folder.
    pub(crate) fn find() -> Result<Self> {
        let xtask =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&xtask).parent().context("`xtask` lies in no folder")?;
        let output = cargo(root)
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .stderr(Stdio::inherit())
            .output()
            .context("failed to run `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` ended with {}", output.status);
        }
        Self::from_metadata(
            &serde_json::from_slice(&output.stdout).context("`cargo metadata` wrote no JSON")?,
        )
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let mut members = list(metadata, "packages")?
            .iter()
            .map(Member::from_metadata)
            .collect::<Result<Vec<_>>>()?;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root: text(metadata, "workspace_root")?.into(),
            target: text(metadata, "target_directory")?.into(),
            members,
        })
    }

    /// `path` below the root, with forward slashes, for messages.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .to_string_lossy()
            .replace('\\', "/")
    }
}

impl Member {
    fn from_metadata(package: &Value) -> Result<Self> {
        let manifest = PathBuf::from(text(package, "manifest_path")?);
        let targets = list(package, "targets")?
            .iter()
            .map(|target| {
                let kind = list(target, "kind")?
                    .first()
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                Ok(Target {
                    name: text(target, "name")?.to_owned(),
                    kind: kind.to_owned(),
                    path: text(target, "src_path")?.into(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            name: text(package, "name")?.to_owned(),
            dir: manifest
                .parent()
                .context("a manifest lies in no folder")?
                .to_owned(),
            published: package
                .get("publish")
                .is_none_or(|to| to.as_array().is_none_or(|to| !to.is_empty())),
            targets,
        })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("`cargo metadata` gave no `{key}`"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("`cargo metadata` gave no `{key}`"))
}

/// The cargo that runs us, as if it had been called from a shell in `dir`: what `cargo run` puts into the environment
/// of this program would make cargo build some crates anew.
pub(crate) fn cargo(dir: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let set_by_cargo = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&name)
        });
        if set_by_cargo {
            command.env_remove(name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_publishes_nowhere_is_not_published() {
        let package = |publish: &str| -> Value {
            serde_json::from_str(&format!(
                r#"{{"name":"a","manifest_path":"/w/a/Cargo.toml","targets":[],"publish":{publish}}}"#
            ))
            .unwrap()
        };
        let published = |publish| Member::from_metadata(&package(publish)).unwrap().published;
        assert!(published("null"));
        assert!(published(r#"["crates-io"]"#));
        assert!(!published("[]"));
    }

    #[test]
    fn the_workspace_finds_itself() {
        let workspace = Workspace::find().unwrap();
        let xtask = workspace
            .members
            .iter()
            .find(|member| member.name == "xtask")
            .unwrap();
        assert!(!xtask.published);
        assert_eq!(xtask.targets_of("bin").count(), 1);
        assert_eq!(workspace.relative(&xtask.dir), "xtask");
    }
}
