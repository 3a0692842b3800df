//! Commands to the TPM from every processor at once: each answer must be the answer to its own question.

use crate::plan::Plan;
use crate::processors::{on_each, online};
use crate::{Outcome, Steps};
use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{Command, NvPublic, PcrSelect, Response, commands, rh};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

/// TPM2_Hash.
const HASH: u32 = 0x17D;
/// An index for each processor, from this one on.
const INDEX: u32 = 0x0150_0C00;
/// TPMA_NV_OWNERWRITE, TPMA_NV_OWNERREAD, TPMA_NV_NO_DA.
const INDEX_ATTRIBUTES: u32 = 1 << 1 | 1 << 17 | 1 << 25;
const INDEX_SIZE: u16 = 40;
/// The PCR that the kernel itself extends.
const PCR_OF_KERNEL: usize = 10;

/// Commands of a round.
const PER_ROUND: usize = 6;

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    steps.step("the TPM answers every processor its own question", || {
        let cpus = online()?;
        let rounds = plan.times(96, 10_000).div_ceil(PER_ROUND * cpus.len());
        let sent = on_each(&cpus, |cpu| Client::new(cpu)?.ask(rounds))?;
        println!(
            "@tpm {} commands from {} processors",
            sent.iter().sum::<usize>(),
            cpus.len()
        );
        Ok(())
    });
}

/// A processor's own connection to the TPM, and what the TPM must know of it.
pub(crate) struct Client {
    device: File,
    cpu: usize,
    pcr: u8,
    value: Digest,
    sent: usize,
}

impl Client {
    pub(crate) fn new(cpu: usize) -> Result<Self, String> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tpmrm0");
        let pcr = if cpu == PCR_OF_KERNEL { 16 } else { cpu };
        let mut client = Self {
            device: open.map_err(|error| format!("/dev/tpmrm0: {error}"))?,
            cpu,
            pcr: u8::try_from(pcr).map_err(|error| error.to_string())?,
            value: Digest::zero(Algorithm::Sha256),
            sent: 0,
        };
        client.value = client.read_pcr()?;
        let public = NvPublic::new(client.index(), INDEX_ATTRIBUTES, INDEX_SIZE);
        // One of an earlier round of steps may be there.
        let _ = client.send(&commands::nv_undefine_space(rh::OWNER, client.index()));
        client.send(&commands::nv_define_space(rh::OWNER, &[], &public))?;
        client.sent = 0;
        Ok(client)
    }

    /// Four kinds of questions in turn; how many commands that was.
    fn ask(&mut self, rounds: usize) -> Result<usize, String> {
        for round in 0..rounds {
            let what = |why| format!("round {round}: {why}");
            self.random().map_err(what)?;
            self.hash(round).map_err(what)?;
            self.extend(round).map_err(what)?;
            self.keep(round).map_err(what)?;
        }
        self.send(&commands::nv_undefine_space(rh::OWNER, self.index()))?;
        Ok(self.sent)
    }

    fn index(&self) -> u32 {
        INDEX + u32::from(self.pcr)
    }

    /// Bytes that nobody else has.
    fn own(&self, round: usize) -> Vec<u8> {
        let text = format!("processor {}, round {round}", self.cpu);
        let mut bytes = text.into_bytes();
        bytes.resize(usize::from(INDEX_SIZE), 0x5A);
        bytes
    }

    /// As many random bytes as nobody else asks for.
    pub(crate) fn random(&mut self) -> Outcome {
        let count = 8 + u16::from(self.pcr);
        let answer = self.send(&commands::get_random(count))?;
        let bytes = parsed(&answer)?
            .parameters
            .sized()
            .map_err(|error| error.to_string())?;
        same("GetRandom's length", &bytes.len(), &usize::from(count))
    }

    fn hash(&mut self, round: usize) -> Outcome {
        let data = self.own(round);
        let command = Command::new(HASH)
            .sized(&data)
            .u16(Algorithm::Sha256.id())
            .u32(rh::NULL);
        let answer = self.send(&command.to_bytes())?;
        let digest = parsed(&answer)?
            .parameters
            .sized()
            .map_err(|error| error.to_string())?;
        same("Hash", &digest, &Algorithm::Sha256.digest(&data).bytes())
    }

    fn extend(&mut self, round: usize) -> Outcome {
        let digest = Algorithm::Sha256.digest(&self.own(round));
        self.send(&commands::pcr_extend(u32::from(self.pcr), &[digest]))?;
        self.value = self.value.extended(&digest).ok_or("no SHA-256")?;
        let value = self.read_pcr()?;
        same("PCR_Read", &value.bytes(), &self.value.bytes())
    }

    fn read_pcr(&mut self) -> Result<Digest, String> {
        let select = PcrSelect::of(Algorithm::Sha256, [self.pcr]);
        let answer = self.send(&commands::pcr_read(select))?;
        let digest = answer.len().checked_sub(Algorithm::Sha256.size());
        let digest = digest.and_then(|start| Digest::new(Algorithm::Sha256, answer.get(start..)?));
        digest.ok_or_else(|| format!("PCR_Read gives {} bytes", answer.len()))
    }

    fn keep(&mut self, round: usize) -> Outcome {
        let (data, index) = (self.own(round), self.index());
        self.send(&commands::nv_write(rh::OWNER, index, 0, &data))?;
        let answer = self.send(&commands::nv_read(rh::OWNER, index, 0, INDEX_SIZE))?;
        let kept = parsed(&answer)?
            .parameters
            .sized()
            .map_err(|error| error.to_string())?;
        same("NV_Read", &kept, &&data[..])
    }

    /// A command that must succeed.
    fn send(&mut self, command: &[u8]) -> Result<Vec<u8>, String> {
        let io = |error: std::io::Error| format!("command {:x?}: {error}", command.get(6..10));
        self.device.write_all(command).map_err(io)?;
        let mut answer = vec![0; 4096];
        let length = self.device.read(&mut answer).map_err(io)?;
        answer.truncate(length);
        self.sent += 1;
        match attestation::tpm::response_code(&answer) {
            Some(attestation::tpm::rc::SUCCESS) => Ok(answer),
            code => Err(format!(
                "command {:x?} is answered {code:x?}",
                command.get(6..10)
            )),
        }
    }
}

fn parsed(answer: &[u8]) -> Result<Response<'_>, String> {
    Response::parse(answer).map_err(|error| error.to_string())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, must: &T) -> Outcome {
    if is == must {
        Ok(())
    } else {
        Err(format!("{what} is {is:x?}, not {must:x?}"))
    }
}
