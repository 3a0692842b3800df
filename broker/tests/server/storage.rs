//! Where a broker under test keeps things: the same tests run on both databases.

use crate::cluster::Cluster;
use std::path::Path;

/// Which database.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Sqlite,
    Postgresql,
}

/// A broker's database.
pub(crate) enum Storage {
    /// `broker.sqlite` in its folder.
    Sqlite,
    /// A database of the cluster that the tests share: its name.
    Postgresql(String),
    /// Another one: its URL.
    Url(String),
}

impl Storage {
    pub(crate) fn new(kind: Kind) -> Storage {
        match kind {
            Kind::Sqlite => Storage::Sqlite,
            Kind::Postgresql => Storage::Postgresql(Cluster::shared().database()),
        }
    }

    /// What `--database` says.
    pub(crate) fn url(&self) -> Option<String> {
        match self {
            Storage::Sqlite => None,
            Storage::Postgresql(name) => Some(Cluster::shared().url(name)),
            Storage::Url(url) => Some(url.clone()),
        }
    }

    /// The options that name it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let url = self.url().into_iter();
        url.flat_map(|url| ["--database".into(), url]).collect()
    }

    /// Whether these bytes can be seen in it.
    pub(crate) fn shows(&self, folder: &Path, secret: &[u8]) -> bool {
        let files = ["broker.sqlite", "broker.sqlite-wal", "log"];
        let in_files = files.iter().any(|file| {
            let bytes = std::fs::read(folder.join(file)).unwrap_or_default();
            bytes.windows(secret.len()).any(|window| window == secret)
        });
        let dump = match self {
            Storage::Postgresql(name) => Cluster::shared().dump(name),
            _ => String::new(),
        };
        in_files || dump.contains(&hex::encode(secret))
    }

    /// Loses it: there is nothing then.
    pub(crate) fn lose(&self, folder: &Path) {
        match self {
            Storage::Sqlite | Storage::Url(_) => {
                for name in ["broker.sqlite", "broker.sqlite-wal", "broker.sqlite-shm"] {
                    let _ = std::fs::remove_file(folder.join(name));
                }
            }
            Storage::Postgresql(name) => {
                let cluster = Cluster::shared();
                cluster.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
                cluster.sql("postgres", &format!("CREATE DATABASE {name}"));
            }
        }
    }
}
