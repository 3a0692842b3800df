//! The guest's initial RAM file system: busybox, tpm2-tools with their libraries, and the scripts
//! of `tests/guest`. The same inputs give the same bytes.

use crate::file_tree::{self, FileTree};
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What tpm2-tools are called: the program knows by its name which it is.
const TOOLS_FOLDER: &str = "/usr/bin";
const TOOLS_PREFIX: &str = "tpm2_";
/// Programs besides busybox, taken from the host with their libraries.
const PROGRAMS: &[&str] = &["/usr/bin/tpm2"];
/// Libraries that those programs load by name at run time.
const LOADED_LIBRARIES: &[&str] = &["libtss2-tcti-device.so.0"];
/// What an initrd has besides the usual.
pub(crate) struct More<'a> {
    /// Programs that need no library; they go to `/bin`.
    pub(crate) programs: &'a [PathBuf],
    /// Other files, by their paths in the guest.
    pub(crate) files: &'a [(&'a str, PathBuf)],
    /// Programs of unpacked Debian packages: where these are unpacked, and the programs' paths there.
    /// Their libraries may be there too.
    pub(crate) unpacked: Option<(&'a Path, &'a [&'a str])>,
    /// How much is made of its size. Whole files are measured, so every byte costs time before L2 runs.
    pub(crate) compression: Compression,
}

impl More<'_> {
    /// Nothing, packed as distributions do.
    pub(crate) const NOTHING: Self = Self {
        programs: &[],
        files: &[],
        unpacked: None,
        compression: Compression::best(),
    };
}

/// Writes the initrd and returns its path.
pub(crate) fn build(guest_scripts: &Path, more: &More<'_>, to: &Path) -> Result<PathBuf> {
    let mut tree = FileTree::default();
    for folder in ["dev", "proc", "sys", "tmp", "run", "root", "etc", "mnt"] {
        tree.folder(folder);
    }
    tree.file(
        "bin/busybox",
        std::fs::read("/bin/busybox").context("busybox-static")?,
        0o755,
    );
    tree.link("bin/sh", "busybox");
    for program in PROGRAMS {
        tree.program(Path::new(program), Path::new("/"))?;
    }
    for tool in tools()? {
        tree.link(&format!("usr/bin/{tool}"), "tpm2");
    }
    for library in LOADED_LIBRARIES {
        tree.program(
            &Path::new(file_tree::LIBRARY_FOLDER).join(library),
            Path::new("/"),
        )?;
    }
    if let Some((folder, programs)) = more.unpacked {
        for program in programs {
            tree.program(&folder.join(program), folder)?;
        }
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    for program in more.programs {
        let name = program.file_name().context("a program without a name")?;
        tree.file(
            &format!("bin/{}", name.to_string_lossy()),
            read(program)?,
            0o755,
        );
    }
    for (place, path) in more.files {
        tree.file(place, read(path)?, 0o644);
    }
    let mut scripts: Vec<_> = std::fs::read_dir(guest_scripts)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    scripts.sort();
    for script in scripts {
        let name = script
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let place = if name == "init" {
            name
        } else {
            format!("bin/{name}")
        };
        tree.file(&place, std::fs::read(&script)?, 0o755);
    }
    let path = to.join("initrd.cpio.gz");
    write_whole(&path, &tree.archive()?, more.compression)?;
    Ok(path)
}

/// Compresses into a file of its own name, which then takes the place of `path` at once: another run that packs or
/// reads the same archive has a whole one, the old or the new.
pub(crate) fn write_whole(path: &Path, archive: &[u8], compression: Compression) -> Result<()> {
    let folder = path.parent().context("an initrd without a folder")?;
    let file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    let mut encoder = GzEncoder::new(file, compression);
    encoder.write_all(archive)?;
    let file = encoder.finish()?;
    file.persist(path)
        .with_context(|| path.display().to_string())?;
    Ok(())
}

/// The names under which Debian's package has the one program that tpm2-tools are.
fn tools() -> Result<Vec<String>> {
    let mut tools: Vec<String> = std::fs::read_dir(TOOLS_FOLDER)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(TOOLS_PREFIX))
        .filter(|name| {
            let target = std::fs::read_link(Path::new(TOOLS_FOLDER).join(name));
            target.is_ok_and(|target| target.file_name().is_some_and(|name| name == "tpm2"))
        })
        .collect();
    tools.sort();
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn two_that_pack_at_once_leave_a_whole_archive_to_every_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initrd.cpio.gz");
        // Noise, which does not shrink, so that writing it takes a while.
        let archives = [1u64, 2].map(|seed| {
            let mut state = seed;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            };
            (0..300_000).map(|_| next()).collect::<Vec<u8>>()
        });
        write_whole(&path, &archives[0], Compression::fast()).unwrap();
        std::thread::scope(|scope| {
            for archive in &archives {
                scope.spawn(|| {
                    for _ in 0..30 {
                        write_whole(&path, archive, Compression::fast()).unwrap();
                    }
                });
            }
            for _ in 0..60 {
                let mut seen = Vec::new();
                let file = std::fs::File::open(&path).unwrap();
                flate2::read::GzDecoder::new(file)
                    .read_to_end(&mut seen)
                    .unwrap();
                assert!(archives.contains(&seen), "{} bytes", seen.len());
            }
        });
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "a file of a name of its own is left behind");
    }
}
