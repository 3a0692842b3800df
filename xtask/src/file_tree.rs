//! A tree of files, as a cpio archive that the kernel or busybox unpacks. The same files give the same bytes.

use anyhow::{Context, Result, bail};
use cpio::NewcBuilder;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// Where Debian's libraries are.
pub(crate) const LIBRARY_FOLDER: &str = "/usr/lib/x86_64-linux-gnu";

enum Entry {
    Folder,
    File { data: Vec<u8>, mode: u32 },
    Link(String),
}

/// Files by their paths, without the first slash; the map's order is the archive's.
#[derive(Default)]
pub(crate) struct FileTree(BTreeMap<String, Entry>);

impl FileTree {
    /// Adds a folder and those above it.
    pub(crate) fn folder(&mut self, path: &str) {
        let mut so_far = String::new();
        for part in path.split('/') {
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far.push_str(part);
            self.0.entry(so_far.clone()).or_insert(Entry::Folder);
        }
    }

    /// Adds a file with this mode, and the folders above it.
    pub(crate) fn file(&mut self, path: &str, data: Vec<u8>, mode: u32) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.0.insert(path.to_owned(), Entry::File { data, mode });
    }

    /// Whether something is at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Adds a symbolic link, and the folders above it.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.0
            .insert(path.to_owned(), Entry::Link(target.to_owned()));
    }

    /// Adds a file of the host at its path below `root`, and the libraries it needs, of which those of
    /// `root` come first.
    pub(crate) fn program(&mut self, path: &Path, root: &Path) -> Result<()> {
        let data = std::fs::read(path).with_context(|| path.display().to_string())?;
        let place = |path: &Path| {
            let below = path.strip_prefix(root).unwrap_or(path).to_string_lossy();
            below.trim_start_matches('/').to_owned()
        };
        self.file(&place(path), data, 0o755);
        let mut ldd = Command::new("ldd");
        ldd.arg(path);
        if root != Path::new("/") {
            let libraries = root.join(LIBRARY_FOLDER.trim_start_matches('/'));
            ldd.env("LD_LIBRARY_PATH", libraries);
        }
        let output = ldd.output().context("cannot run ldd")?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // "libx.so.1 => /lib/.../libx.so.1 (0x...)" or "/lib64/ld-linux-x86-64.so.2 (0x...)".
            let library = match line.split_once("=> ") {
                Some((name, _)) if line.contains("not found") => {
                    bail!(
                        "{} needs {}, which is not installed",
                        path.display(),
                        name.trim()
                    )
                }
                Some((_, found)) => found,
                None => line.trim(),
            };
            let Some(library) = library
                .split_whitespace()
                .next()
                .filter(|name| name.starts_with('/'))
            else {
                continue;
            };
            let place = place(Path::new(library));
            if !self.0.contains_key(&place) {
                let data = std::fs::read(library).with_context(|| library.to_owned())?;
                self.file(&place, data, 0o755);
            }
        }
        Ok(())
    }

    /// The archive. Everything in it is root's, and of the time 0.
    pub(crate) fn archive(self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (inode, (path, entry)) in (1u32..).zip(self.0) {
            let (mode, data) = match entry {
                Entry::Folder => (DIRECTORY | 0o755, Vec::new()),
                Entry::File { data, mode } => (REGULAR | mode, data),
                Entry::Link(target) => (SYMLINK | 0o777, target.into_bytes()),
            };
            let builder = NewcBuilder::new(&path)
                .ino(inode)
                .mode(mode)
                .nlink(1)
                .mtime(0);
            let mut writer = builder.write(&mut out, data.len() as u32);
            writer.write_all(&data)?;
            writer.finish()?;
        }
        cpio::newc::trailer(&mut out)?;
        Ok(out)
    }
}
