//! What the build links is the pinned archive, and it takes nothing else for it.
#![allow(dead_code, missing_docs)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../build/archive.rs"]
mod archive;
#[path = "../build/command.rs"]
mod command;

use archive::{Pinned, Sources};

fn linked() -> PathBuf {
    Path::new(env!("TPM2_REF_TPMS_DIR")).join("libtpms.a")
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A package of a version that never was, with checksums that are right.
struct Fake {
    pinned: Pinned,
    file: Vec<u8>,
}

/// The file of the package, and of the archive in it.
fn fake(folder: &Path, version: &'static str) -> Fake {
    let tree = folder.join(format!("tree-{version}"));
    let library = tree.join("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&library).unwrap();
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::write(library.join("libtpms.a"), format!("archive of {version}")).unwrap();
    let control = format!(
        "Package: libtpms-dev\nVersion: {version}\nArchitecture: amd64\n\
         Maintainer: Nobody <nobody@example.org>\nDescription: a test\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let package = folder.join("package.deb");
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-b"])
        .args([&tree, &package])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let digest = |path: &Path| &*archive::sha256(path).unwrap().leak();
    Fake {
        pinned: Pinned {
            version,
            package: digest(&package),
            archive: digest(&library.join("libtpms.a")),
        },
        file: fs::read(&package).unwrap(),
    }
}

/// Two versions, the newest first: their checksums, and the files.
fn fakes(folder: &Path) -> (&'static [Pinned], [Vec<u8>; 2]) {
    let [new, old] = ["3-1", "2-1"].map(|version| fake(folder, version));
    (
        Box::leak(Box::new([new.pinned, old.pinned])),
        [new.file, old.file],
    )
}

/// Offline, with nothing anywhere.
fn nowhere(folder: &Path) -> Sources {
    Sources {
        given: None,
        user_cache: Some(folder.join("packages")),
        system: folder.join("absent.a"),
        mirrors: Vec::new(),
    }
}

/// A mirror in a folder that has this file.
fn mirror(folder: &Path, pinned: &Pinned, package: &[u8]) -> String {
    let pool = folder.join("mirror/pool/main/libt/libtpms");
    fs::create_dir_all(&pool).unwrap();
    fs::write(pool.join(pinned.file()), package).unwrap();
    format!("file://{}", folder.join("mirror").display())
}

/// `sources` with that mirror and, before it, one that has nothing.
fn mirrored(folder: &Path, pinned: &Pinned, package: &[u8]) -> Sources {
    Sources {
        mirrors: vec![
            format!("file://{}", folder.join("empty-mirror").display()),
            mirror(folder, pinned, package),
        ],
        ..nowhere(folder)
    }
}

#[test]
fn linked_archive_is_pinned() {
    archive::check(&linked(), archive::PINNED).unwrap();
}

#[test]
fn the_engine_is_named_after_the_package_that_is_linked() {
    let version = archive::check(&linked(), archive::PINNED).unwrap().version;
    assert_eq!(tpm2_ref_sys::ENGINE, format!("libtpms {version}"));
}

#[test]
fn an_installed_archive_is_kept_and_then_found_in_the_build_folder() {
    let folder = folder("kept");
    let installed = Sources {
        system: linked(),
        ..nowhere(&folder)
    };
    let found = archive::obtain(&folder, &installed, archive::PINNED).unwrap();
    archive::check(&found.directory.join("libtpms.a"), archive::PINNED).unwrap();
    let again = archive::obtain(&folder, &nowhere(&folder), archive::PINNED).unwrap();
    assert_eq!(again.directory, found.directory);
}

#[test]
fn an_archive_with_one_other_bit_is_refused_wherever_it_is() {
    let folder = folder("changed");
    let mut bytes = fs::read(linked()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = folder.join("changed.a");
    fs::write(&changed, &bytes).unwrap();
    let obtain = |sources: &Sources| archive::obtain(&folder, sources, archive::PINNED);

    let given = Sources {
        given: Some(changed.clone()),
        ..nowhere(&folder)
    };
    let error = obtain(&given).unwrap_err();
    assert!(error.contains(archive::VARIABLE), "{error}");
    assert!(error.contains("not that of a pinned archive"), "{error}");

    let installed = Sources {
        system: changed,
        ..nowhere(&folder)
    };
    obtain(&installed).unwrap_err();

    // In the build folder it is replaced.
    let good = Sources {
        system: linked(),
        ..nowhere(&folder)
    };
    let kept = obtain(&good).unwrap().directory.join("libtpms.a");
    fs::write(&kept, &bytes).unwrap();
    obtain(&good).unwrap();
    archive::check(&kept, archive::PINNED).unwrap();
}

#[test]
fn a_package_of_a_mirror_is_kept_for_the_user_and_serves_without_one() {
    let folder = folder("mirror");
    let (pins, [new, _]) = fakes(&folder);
    let sources = mirrored(&folder, &pins[0], &new);
    let found = archive::obtain(&folder.join("one"), &sources, pins).unwrap();
    assert_eq!((found.pinned.version, found.passed_over.len()), ("3-1", 0));
    let kept = folder.join("packages").join(pins[0].file());
    assert_eq!(fs::read(&kept).unwrap(), new);
    // Nothing else stays.
    assert_eq!(fs::read_dir(folder.join("one")).unwrap().count(), 1);

    // Another checkout, offline.
    let found = archive::obtain(&folder.join("two"), &nowhere(&folder), pins).unwrap();
    assert_eq!((found.pinned.version, found.passed_over.len()), ("3-1", 0));
    let archive = fs::read(found.directory.join("libtpms.a")).unwrap();
    assert_eq!(archive, b"archive of 3-1");
}

#[test]
fn a_package_with_another_checksum_is_refused_and_in_the_user_cache_replaced() {
    let folder = folder("false");
    let (pins, [new, _]) = fakes(&folder);
    let mut other = new.clone();
    other[100] ^= 1;
    let kept = folder.join("packages").join(pins[0].file());
    fs::create_dir_all(folder.join("packages")).unwrap();
    fs::write(&kept, &other).unwrap();
    let build = folder.join("build");
    let error = archive::obtain(&build, &nowhere(&folder), pins).unwrap_err();
    assert!(error.contains("its sha256 is"), "{error}");

    let false_mirror = mirrored(&folder, &pins[0], &other);
    archive::obtain(&build, &false_mirror, pins).unwrap_err();
    assert_eq!(fs::read(&kept).unwrap(), other);

    let true_mirror = mirrored(&folder, &pins[0], &new);
    archive::obtain(&build, &true_mirror, pins).unwrap();
    assert_eq!(fs::read(&kept).unwrap(), new);
}

#[test]
fn an_older_version_is_taken_when_the_newest_cannot_be_had_and_says_why() {
    let folder = folder("older");
    let (pins, [new, old]) = fakes(&folder);
    let sources = mirrored(&folder, &pins[1], &old);
    let found = archive::obtain(&folder.join("build"), &sources, pins).unwrap();
    assert_eq!(found.pinned.version, "2-1");
    let passed_over = found.passed_over.join("\n");
    assert!(passed_over.contains(&pins[0].file()), "{passed_over}");
    assert!(!passed_over.contains(&pins[1].file()), "{passed_over}");

    // The newest is taken as soon as it can be.
    let sources = mirrored(&folder, &pins[0], &new);
    let found = archive::obtain(&folder.join("build"), &sources, pins).unwrap();
    assert_eq!(found.pinned.version, "3-1");
}

#[test]
fn error_names_what_was_tried_the_files_and_where_to_put_one() {
    let folder = folder("nothing");
    let error = archive::obtain(&folder, &nowhere(&folder), archive::PINNED).unwrap_err();
    let packages = folder.join("packages").display().to_string();
    let variables = [
        archive::VARIABLE,
        archive::OFFLINE_VARIABLE,
        archive::MIRRORS_VARIABLE,
    ];
    let mut parts = vec!["absent.a".to_owned(), packages];
    parts.extend(variables.map(str::to_owned));
    for pinned in archive::PINNED {
        parts.extend([pinned.file(), pinned.package.to_owned()]);
    }
    for part in parts {
        assert!(error.contains(&part), "{part}: {error}");
    }
}

#[test]
fn the_user_cache_is_where_xdg_says() {
    let with = |cache: Option<&'static str>, home: Option<&'static str>| {
        archive::user_cache(|name| {
            let value = match name {
                "XDG_CACHE_HOME" => cache,
                "HOME" => home,
                _ => None,
            };
            value.map(PathBuf::from)
        })
    };
    let at = |path: &str| Some(PathBuf::from(path));
    assert_eq!(with(Some("/c"), Some("/h")), at("/c/tdp-vtpm/packages"));
    assert_eq!(with(None, Some("/h")), at("/h/.cache/tdp-vtpm/packages"));
    // The specification: relative paths are ignored.
    assert_eq!(
        with(Some("c"), Some("/h")),
        at("/h/.cache/tdp-vtpm/packages")
    );
    assert_eq!(with(None, None), None);
}
