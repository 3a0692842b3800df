//! A machine's attested configuration: an init-data document, whose SHA-384 is MRCONFIGID.
//!
//! The document is the host's to present, and MRCONFIGID says whether it is the tenant's. The broker reads of it whose
//! machine it is, whether it is this broker's, where the key is asked for, and whether a ledger is wanted; the rest is L1's.

use crate::refused::Refused;
use broker_protocol::MachineId;
use broker_protocol::jws::Identity;
use broker_protocol::kbs::PATH_RESOURCE;
use init_data::{Broker, Configuration, KeySource, Machine, Otherwise, PersistentState, Rollback};

/// What the broker reads of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// SHA-384 of the document.
    pub digest: [u8; 48],
    /// Whose it is.
    pub machine: MachineId,
    /// Who keeps count of its states.
    pub rollback: Rollback,
    /// What it says of key and state.
    pub configured: Configured,
    /// Where its key is asked for.
    pub path: String,
}

impl Asked {
    /// Reads a document that is for the broker with this identity.
    ///
    /// # Errors
    /// [`Refused::InitData`], [`Refused::NoBroker`], [`Refused::OtherBroker`].
    pub fn read(document: &str, own: &Identity) -> Result<Self, Refused> {
        let document = init_data::parse(document.as_bytes())?;
        let state = document.configuration.state.ok_or(Refused::NoBroker)?;
        let (broker, halves) = match &state.key {
            KeySource::Broker(broker) => (broker, Halves::Broker),
            KeySource::Both(broker) => (broker, Halves::Both),
            KeySource::Hardware => return Err(Refused::NoBroker),
        };
        if broker.key != own.to_sec1() {
            return Err(Refused::OtherBroker);
        }
        Ok(Self {
            digest: document.digest,
            machine: MachineId(state.machine.0),
            rollback: state.rollback,
            configured: Configured {
                halves,
                otherwise: state.otherwise,
            },
            path: format!("{PATH_RESOURCE}{}", broker.resource),
        })
    }
}

/// What a machine's document says beside who counts its states, and so what the broker asks for of each that is presented:
/// MRCONFIGID says that a document is L1's, and where the policy takes any the host chooses among documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configured {
    /// `key`.
    pub halves: Halves,
    /// `state`.
    pub otherwise: Otherwise,
}

impl Configured {
    /// Whether a document that says `asked` may be this machine's.
    ///
    /// # Errors
    /// [`Refused::OtherConfiguration`].
    pub fn check(&self, asked: &Self) -> Result<(), Refused> {
        same("key", asked.halves.name(), self.halves.name())?;
        same("state", asked.otherwise.name(), self.otherwise.name())
    }
}

/// Whether a document says of `member` what the machine was enrolled with.
///
/// # Errors
/// [`Refused::OtherConfiguration`].
pub fn same(
    member: &'static str,
    asked: &'static str,
    enrolled: &'static str,
) -> Result<(), Refused> {
    match asked == enrolled {
        true => Ok(()),
        false => Err(Refused::OtherConfiguration {
            member,
            asked,
            enrolled,
        }),
    }
}

/// What a machine's owner wants.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Where the state cannot be opened.
    pub otherwise: Otherwise,
    /// Who keeps count of states.
    pub rollback: Rollback,
    /// Whether the TDX module has a half of the key.
    pub halves: Halves,
}

/// Where the halves of a state's key come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// From the broker alone.
    Broker,
    /// From the broker and from TDG.MR.KEY.GET.
    Both,
}

impl Halves {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Broker, Self::Both];

    /// As in a document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Both => "both",
        }
    }
}

impl Wishes {
    /// What the document is to say of key and state.
    pub fn configured(&self) -> Configured {
        Configured {
            halves: self.halves,
            otherwise: self.otherwise,
        }
    }
}

/// A document for `machine`.
pub fn document(machine: &MachineId, identity: &Identity, wishes: Wishes) -> String {
    let machine = Machine(machine.0);
    let broker = Broker {
        key: identity.to_sec1(),
        resource: Broker::default_resource(&machine),
    };
    let configuration = Configuration {
        state: Some(PersistentState {
            machine,
            otherwise: wishes.otherwise,
            key: match wishes.halves {
                Halves::Broker => KeySource::Broker(broker),
                Halves::Both => KeySource::Both(broker),
            },
            rollback: wishes.rollback,
        }),
        banks: None,
        mirror: None,
    };
    configuration.to_document()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha384};

    #[test]
    fn the_document_of_an_enrolment_is_read_as_it_was_meant() {
        let machine = MachineId([5; 32]);
        let identity = crate::random::identity_key().unwrap().identity();
        let other = crate::random::identity_key().unwrap().identity();
        for rollback in Rollback::ALL {
            let wishes = Wishes {
                otherwise: Otherwise::Refuse,
                rollback,
                halves: Halves::Both,
            };
            let text = document(&machine, &identity, wishes);
            let read = Asked::read(&text, &identity).unwrap();
            let expected = Asked {
                digest: Sha384::digest(&text).into(),
                machine,
                rollback,
                configured: wishes.configured(),
                path: broker_protocol::kbs::resource_path(&machine),
            };
            assert_eq!(read, expected);
            let refused = Asked::read(&text, &other).unwrap_err();
            assert_eq!(refused.name(), "other-broker");
        }
        let hardware = "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\"tdp-vtpm.toml\" = 'state = \"ephemeral\"'\n";
        assert_eq!(
            Asked::read(hardware, &identity).unwrap_err().name(),
            "no-broker"
        );
        assert_eq!(Asked::read("x", &identity).unwrap_err().name(), "init-data");
    }
}
