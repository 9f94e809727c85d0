//! The files of a pack on their way to the disk: [`Pack`]. Each is written aside and moved into place once all are
//! whole, so that no reader finds half a pack. Knows nothing of what is in them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use leash_core::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::FILES;
use crate::AuditError;

/// A file that is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) name: &'static str,
    pub(super) sha256: Digest,
    pub(super) size_bytes: u64,
}

/// A file that is being written, and what is known of it so far. Not buffered.
#[derive(Debug)]
pub(super) struct Draft {
    file: NamedTempFile,
    hasher: Sha256,
    size_bytes: u64,
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        self.size_bytes = self
            .size_bytes
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A pack that is being written.
#[derive(Debug)]
pub(super) struct Pack {
    dir: PathBuf,
    finished: Vec<Finished>,
    waiting: Vec<NamedTempFile>,
}

impl Pack {
    /// Makes the folder `dir`, where no file of the pack may take the place of the log at `source`.
    pub(super) fn create(dir: &Path, source: &Path) -> Result<Self, AuditError> {
        fs::create_dir_all(dir).map_err(AuditError::io("make the folder", dir))?;
        if let Ok(source) = fs::canonicalize(source) {
            let taken = |name: &str| fs::canonicalize(dir.join(name)).is_ok_and(|path| path == source);
            if let Some(name) = FILES.iter().find(|name| taken(name)) {
                return Err(AuditError::Report(format!(
                    "the pack's `{name}` would take the place of the log; choose another folder"
                )));
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            finished: Vec::new(),
            waiting: Vec::new(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new file, to be given back when it is whole.
    pub(super) fn file(&self, name: &'static str) -> Result<Draft, AuditError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".soc2-");
        // As any file that the user makes: the pack is handed on.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(&self.dir)
            .map_err(AuditError::io("write", self.path(name)))?;
        Ok(Draft {
            file,
            hasher: Sha256::new(),
            size_bytes: 0,
        })
    }

    /// Takes a file that is whole.
    pub(super) fn done(&mut self, name: &'static str, draft: Draft) {
        self.finished.push(Finished {
            name,
            sha256: crate::verify::digest_of(draft.hasher),
            size_bytes: draft.size_bytes,
        });
        self.waiting.push(draft.file);
    }

    pub(super) fn write(&mut self, name: &'static str, content: &[u8]) -> Result<(), AuditError> {
        let mut draft = self.file(name)?;
        draft
            .write_all(content)
            .map_err(AuditError::io("write", self.path(name)))?;
        self.done(name, draft);
        Ok(())
    }

    /// Those that are whole, in the order in which they became so.
    pub(super) fn files(&self) -> &[Finished] {
        &self.finished
    }

    /// Moves all into place.
    pub(super) fn finish(self) -> Result<Vec<PathBuf>, AuditError> {
        let mut paths = Vec::with_capacity(self.finished.len());
        for (file, finished) in self.waiting.into_iter().zip(&self.finished) {
            let path = self.dir.join(finished.name);
            file.persist(&path)
                .map_err(|error| AuditError::io("write", &path)(error.error))?;
            paths.push(path);
        }
        Ok(paths)
    }
}

/// Adds a JSON string in which all but printable ASCII is escaped.
pub(super) fn push_json(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
