//! What the build links is the pinned archive, and it takes nothing else for it.
#![allow(dead_code, missing_docs)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../build/archive.rs"]
mod archive;
#[path = "../build/command.rs"]
mod command;

use archive::Sources;

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

fn nowhere(folder: &Path) -> Sources {
    Sources {
        given: None,
        system: folder.join("absent.a"),
        network: false,
    }
}

#[test]
fn linked_archive_is_pinned() {
    archive::check(&linked()).unwrap();
}

#[test]
fn the_engine_is_named_after_the_package_that_is_linked() {
    let version = archive::check(&linked()).unwrap().version;
    assert_eq!(tpm2_ref_sys::ENGINE, format!("libtpms {version}"));
    assert!(version.contains("+deb"), "with security patches: {version}");
}

#[test]
fn an_installed_archive_is_kept_and_then_found_in_the_cache() {
    let folder = folder("kept");
    let installed = Sources {
        system: linked(),
        ..nowhere(&folder)
    };
    let kept = archive::obtain(&folder, &installed).unwrap();
    archive::check(&kept.join("libtpms.a")).unwrap();
    assert_eq!(archive::obtain(&folder, &nowhere(&folder)).unwrap(), kept);
}

#[test]
fn an_archive_with_one_other_bit_is_refused_wherever_it_is() {
    let folder = folder("changed");
    let mut bytes = fs::read(linked()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = folder.join("changed.a");
    fs::write(&changed, &bytes).unwrap();

    let given = Sources {
        given: Some(changed.clone()),
        ..nowhere(&folder)
    };
    let error = archive::obtain(&folder, &given).unwrap_err();
    assert!(error.contains(archive::VARIABLE), "{error}");
    assert!(error.contains("not that of a pinned archive"), "{error}");

    let installed = Sources {
        system: changed,
        ..nowhere(&folder)
    };
    archive::obtain(&folder, &installed).unwrap_err();

    // In the cache it is replaced.
    let good = Sources {
        system: linked(),
        ..nowhere(&folder)
    };
    let kept = archive::obtain(&folder, &good).unwrap().join("libtpms.a");
    fs::write(&kept, &bytes).unwrap();
    archive::obtain(&folder, &good).unwrap();
    archive::check(&kept).unwrap();
}

#[test]
fn error_names_what_was_tried_and_the_remedies() {
    let folder = folder("nothing");
    let error = archive::obtain(&folder, &nowhere(&folder)).unwrap_err();
    for part in [
        "absent.a",
        archive::OFFLINE_VARIABLE,
        "apt-get install libtpms-dev=0.9.2-3.1+deb12u1",
        archive::VARIABLE,
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
#[ignore = "asks Debian's archive"]
fn an_archive_that_is_nowhere_is_downloaded() {
    let folder = folder("downloaded");
    let sources = Sources {
        network: true,
        ..nowhere(&folder)
    };
    let kept = archive::obtain(&folder, &sources).unwrap();
    archive::check(&kept.join("libtpms.a")).unwrap();
    // Nothing else stays.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
