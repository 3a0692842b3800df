//! A TPM of the host's: the same engine, without a TD around it.

use attestation::event_log::Log;
use attestation::journal::StartupType;
use attestation::tpm::{commands, rh, template};
use tpm2_ref_sys::{Ephemeral, Tpm};

use crate::guest::Device;
use crate::turn::{self, Turn};

/// A software TPM that a host puts in the vTPM's place: it has an AK where the vTPM has its own, by the same template.
pub struct HostTpm {
    tpm: Tpm,
    _turn: Turn,
}

impl HostTpm {
    /// Starts it.
    pub fn start(seed: u64) -> HostTpm {
        let turn = Turn::wait(seed);
        let tpm = Tpm::open(tpm2_ref_sys::Config {
            entropy: turn::entropy,
            clock: turn::clock,
            store: Box::new(Ephemeral),
        })
        .expect("the engine opens");
        let mut tpm = HostTpm { tpm, _turn: turn };
        tpm.ok(&commands::startup(StartupType::Clear));
        let template = template::ak_rsa_2048();
        let ak = tpm.handle(&commands::create_primary(rh::ENDORSEMENT, &template));
        tpm.ok(&commands::evict_control(ak, rh::AK));
        tpm
    }

    /// Extends its PCRs as a TCG event log says.
    pub fn replay(&mut self, log: &[u8]) {
        let log = Log::parse(log).expect("an event log");
        for event in log.events.iter().filter(|event| event.extends()) {
            self.ok(&commands::pcr_extend(event.register, &event.digests));
        }
    }
}

impl Device for HostTpm {
    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        let mut response = [0; tpm2_ref_sys::MAX_RESPONSE];
        let length = self
            .tpm
            .execute(0, command, &mut response)
            .expect("the engine answers");
        response[..length].to_vec()
    }
}
