//! Debian's PostgreSQL, for the broker's tests and figures: unpacked, not installed, so that no cluster is made and no
//! service started.

use crate::debian;
use crate::images::work_folder;
use anyhow::Result;
use std::path::PathBuf;

/// Names the folder for tests and benchmark.
pub(crate) const VARIABLE: &str = "TDP_VTPM_POSTGRESQL";

/// Server, client programs, and the libraries that not every Debian has.
const PACKAGES: &[&str] = &[
    "postgresql-15",
    "postgresql-client-15",
    "libaudit1",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libffi8",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzma5",
    "libnettle8",
    "libp11-kit0",
    "libpam0g",
    "libpq5",
    "libreadline8",
    "libsasl2-2",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libunistring2",
    "libxml2",
    "libzstd1",
    "zlib1g",
];

/// The folder that it is unpacked in, fetched on first use.
pub(crate) fn unpacked() -> Result<PathBuf> {
    debian::unpacked("postgresql", PACKAGES, &work_folder()?)
}
