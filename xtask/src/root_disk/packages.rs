//! Debian's packages that the encrypted root and its initrd are made of: nothing is taken from this machine.

use crate::debian;
use crate::file_tree::{FileTree, LIBRARY_FOLDER};
use anyhow::{Context, Result, bail};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// All of them, with what they depend on. Some are the initrd's alone: busybox, e2fsprogs.
const PACKAGES: &[&str] = &[
    // What every Debian has, and the first program.
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "grep",
    "mawk",
    "mount",
    "sed",
    "systemd",
    "util-linux",
    // The clients that enrol and open the volume.
    "clevis",
    "clevis-luks",
    "clevis-tpm2",
    "cryptsetup-bin",
    "dmsetup",
    "e2fsprogs",
    "jose",
    "libpwquality-tools",
    "luksmeta",
    "tpm2-tools",
    // Libraries that are loaded by name.
    "libcryptsetup12",
    "libtss2-esys-3.0.2-0",
    "libtss2-mu0",
    "libtss2-rc0",
    "libtss2-tcti-device0",
    // Libraries.
    "libacl1",
    "libapparmor1",
    "libargon2-1",
    "libattr1",
    "libaudit1",
    "libblkid1",
    "libbrotli1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libcrack2",
    "libcrypt1",
    "libcurl3-gnutls",
    "libdevmapper1.02.1",
    "libext2fs2",
    "libfdisk1",
    "libffi8",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libidn2-0",
    "libip4tc2",
    "libjansson4",
    "libjose0",
    "libjson-c5",
    "libk5crypto3",
    "libkeyutils1",
    "libkmod2",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzma5",
    "libluksmeta0",
    "libmount1",
    "libnettle8",
    "libnghttp2-14",
    "libp11-kit0",
    "libpam0g",
    "libpcre2-8-0",
    "libpopt0",
    "libpsl5",
    "libpwquality1",
    "librtmp1",
    "libsasl2-2",
    "libseccomp2",
    "libselinux1",
    "libsmartcols1",
    "libss2",
    "libssh2-1",
    "libssl3",
    "libsystemd-shared",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libtss2-fapi1",
    "libtss2-sys1",
    "libtss2-tctildr0",
    "libudev1",
    "libunistring2",
    "libuuid1",
    "libzstd1",
    "zlib1g",
];

/// Folders in which the loader looks for a library.
const LIBRARY_FOLDERS: [&str; 3] = [
    LIBRARY_FOLDER,
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu/systemd",
];
/// Folders that are links to those of the same name in `/usr`; packages of Debian 12 name files by either.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// What a root without people and networks does without.
const LEFT_OUT: [&str; 14] = [
    "usr/lib/systemd/systemd-networkd",
    "usr/lib/udev/hwdb.d",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/bash-completion",
    "usr/share/common-licenses",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo",
    "usr/share/zsh",
];

/// More links in a row are a circle.
const MOST_LINKS: usize = 8;

/// The packages' files.
pub(super) struct Packages {
    /// Where a file is on this machine, by its path in the guest without the first slash.
    files: BTreeMap<String, PathBuf>,
}

impl Packages {
    /// Fetches them into `cache` on first use.
    pub(super) fn fetch(cache: &Path) -> Result<Self> {
        let folder = debian::unpacked("root-disk", PACKAGES, cache)?;
        let mut files = BTreeMap::new();
        find(&folder, "", &mut files)?;
        Ok(Self { files })
    }

    /// Adds a program, and the loader and libraries it needs.
    pub(super) fn add_program(&self, path: &str, tree: &mut FileTree) -> Result<()> {
        if tree.has(path) {
            return Ok(());
        }
        let data = self.read(path)?;
        let needs = Needs::of(&data).with_context(|| path.to_owned())?;
        tree.file(path, data, 0o755);
        for name in needs.libraries {
            let library = LIBRARY_FOLDERS
                .iter()
                .map(|folder| merged(&format!("{folder}/{name}")))
                .find(|place| self.files.contains_key(place))
                .with_context(|| format!("{path} needs {name}, which no package has"))?;
            self.add_program(&library, tree)?;
        }
        match needs.loader {
            Some(loader) => self.add_program(&merged(&loader), tree),
            None => Ok(()),
        }
    }

    /// Adds everything but what a root does without.
    pub(super) fn add_all(&self, tree: &mut FileTree) -> Result<()> {
        for (path, file) in &self.files {
            let left_out = |folder: &&str| {
                let below = path.strip_prefix(*folder);
                below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            };
            if LEFT_OUT.iter().any(left_out) {
                continue;
            }
            let metadata = fs::symlink_metadata(file)?;
            if metadata.is_symlink() {
                let target = fs::read_link(file)?;
                tree.link(path, &target.to_string_lossy());
            } else {
                let mode = metadata.permissions().mode() & 0o7777;
                tree.file(path, self.read(path)?, mode);
            }
        }
        Ok(())
    }

    /// A file's content, behind any links.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let file = self.files.get(&path);
            let file = file.with_context(|| format!("no package has {path}"))?;
            if !file.is_symlink() {
                return fs::read(file).with_context(|| file.display().to_string());
            }
            let target = fs::read_link(file)?.to_string_lossy().into_owned();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            path = match target.strip_prefix('/') {
                Some(_) => merged(&target),
                None => format!("{folder}/{target}"),
            };
        }
        bail!("too many links at {path}")
    }
}

/// The path, without the first slash, of a file in a system whose folders are merged.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Adds the folders of `/` that are links into `/usr`.
pub(super) fn add_merged_folders(tree: &mut FileTree) {
    for name in MERGED {
        tree.folder(&format!("usr/{name}"));
        tree.link(name, &format!("usr/{name}"));
    }
}

/// Every file and link below a folder, by its path below it as in a system whose folders are merged.
fn find(folder: &Path, below: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let place = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            find(&entry.path(), &place, files)?;
        } else {
            files.insert(merged(&place), entry.path());
        }
    }
    Ok(())
}

/// What an ELF file needs to be loaded; nothing, if it is a static program.
#[derive(Default)]
struct Needs {
    /// Names of libraries (DT_NEEDED).
    libraries: Vec<String>,
    /// The loader's path (PT_INTERP).
    loader: Option<String>,
}

impl Needs {
    fn of(data: &[u8]) -> Result<Self> {
        let header = elf::FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, data)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut needs = Self::default();
        for segment in header.program_headers(endian, data)? {
            if let Some(loader) = segment.interpreter(endian, data)? {
                needs.loader = Some(text(loader));
            }
        }
        if let Some((entries, index)) = sections.dynamic(endian, data)? {
            let strings = sections.strings(endian, data, index)?;
            for entry in entries {
                if entry.tag32(endian) == Some(elf::DT_NEEDED) {
                    needs.libraries.push(text(entry.string(endian, strings)?));
                }
            }
        }
        Ok(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_those_of_a_merged_system() {
        assert_eq!(merged("/lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(merged("bin/busybox"), "usr/bin/busybox");
        assert_eq!(merged("/usr/bin/env"), "usr/bin/env");
        assert_eq!(merged("/binaries/x"), "binaries/x");
    }

    /// Libraries by DT_NEEDED, through links, and the loader; what no package has is named.
    #[test]
    fn a_program_comes_with_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let needs = Needs::of(&fs::read(&program).unwrap()).unwrap();
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"));
        let loader = merged(&needs.loader.unwrap());
        // Static: it needs nothing. It stands for each library, behind a link.
        let files = needs
            .libraries
            .iter()
            .map(|name| format!("lib/x86_64-linux-gnu/{name}"));
        let files: BTreeSet<String> = files.chain([loader.clone()]).collect();
        for path in files {
            let place = folder.path().join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let behind = place.with_extension("static");
            fs::copy("/bin/busybox", &behind).unwrap();
            symlink(behind.file_name().unwrap(), &place).unwrap();
        }
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        fs::copy(&program, folder.path().join("usr/bin/program")).unwrap();
        let mut files = BTreeMap::new();
        find(folder.path(), "", &mut files).unwrap();
        let mut packages = Packages { files };
        let mut tree = FileTree::default();
        packages.add_program("usr/bin/program", &mut tree).unwrap();
        assert!(tree.has(&loader) && tree.has("usr/lib/x86_64-linux-gnu/libc.so.6"));
        packages.files.remove("usr/lib/x86_64-linux-gnu/libc.so.6");
        let missing = packages.add_program("usr/bin/program", &mut FileTree::default());
        let missing = missing.unwrap_err().to_string();
        assert!(
            missing.contains("needs libc.so.6, which no package has"),
            "{missing}"
        );
    }
}
