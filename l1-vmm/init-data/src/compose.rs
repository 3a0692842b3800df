//! From what L1 is to do to a document.

use crate::configuration::{Configuration, PersistentState};
use crate::hexadecimal::Hex;
use crate::{ALGORITHM, SECTION, VERSION};
use alloc::format;
use alloc::string::String;

impl Configuration {
    /// A document with this section and no other.
    pub fn to_document(&self) -> String {
        let section = self.to_section();
        format!(
            "version = \"{VERSION}\"\nalgorithm = \"{ALGORITHM}\"\n\n[data]\n\"{SECTION}\" = '''\n{section}'''\n"
        )
    }

    /// Our section, for a document that has others as well.
    pub fn to_section(&self) -> String {
        let mut lines = String::new();
        let mut line = |key: &str, value: &str| lines += &format!("{key} = \"{value}\"\n");
        match &self.state {
            None => line("state", "ephemeral"),
            Some(state) => {
                line("machine", &format!("{}", state.machine));
                line("state", state.otherwise.name());
                line("key", state.key.name());
                line("rollback", state.rollback.name());
            }
        }
        if let Some(banks) = self.banks {
            line("pcr-banks", &banks.names());
        }
        if let Some(mirror) = self.mirror {
            line("pcr-mirror", mirror.name());
        }
        lines + &self.state.as_ref().map(broker).unwrap_or_default()
    }
}

fn broker(state: &PersistentState) -> String {
    state.key.broker().map_or_else(String::new, |broker| {
        format!(
            "\n[broker]\nkey = \"{}\"\nresource = \"{}\"\n",
            Hex(&broker.key),
            broker.resource
        )
    })
}
