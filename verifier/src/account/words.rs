//! What measured events mean, for readers who have not read the specifications.

use crate::cc_event::CcEvent;
use attestation::{
    event_log::Event,
    journal::{Mode, Record, Rollback, StartupType},
    launch,
};

pub(super) const CC_EVENT_LOG: &str = "What was measured into the registers of the trust domain (RTMR0 to RTMR3). The TDX module keeps \
     these registers, and the TD quote is over them. A register can only be extended, so the log explains the registers, and the registers prove the log.";

pub(super) const TCG_EVENT_LOG: &str = "What the virtual machine monitor L1 measured into the TPM's registers (PCRs) on the guest's behalf, \
     before the guest's first instruction. The same as above, where a TPM's own users look for it.";

pub(super) const NO_ACTION: &str =
    "It extends no register, so nothing proves who wrote it, or when: it says nothing.";

pub(super) const UNKNOWN: &str = "Nothing that the firmware or L1 measures there.";

/// An event of the CC event log; `record` is the journal's, if it is one.
pub(super) fn of_cc_event(event: &CcEvent<'_>, record: Option<&Record>) -> String {
    match event {
        CcEvent::TdHob(_) => "The list by which the host describes the machine to the firmware: its memory above all. The host wrote it, \
             so it is what the policy expects or it is refused."
            .into(),
        CcEvent::Separator => "The firmware's part of this register ends here, and it met no error. What follows is L1's."
            .into(),
        CcEvent::Firmware(..) => "Something that the firmware measured beside what every launch has. The policy must list it."
            .into(),
        CcEvent::Kernel => "The guest's kernel: the whole file, measured before it ran, without the fields in which a boot loader writes."
            .into(),
        CcEvent::CommandLine(_) => "The parameters that L1 gave the kernel, to the letter. They decide what the kernel starts and how it protects itself."
            .into(),
        CcEvent::Initrd => "The file system that the guest starts from: the whole file, measured before the kernel ran.".into(),
        CcEvent::Journal => record.map_or_else(|| UNKNOWN.to_owned(), of_record),
        CcEvent::NoAction => NO_ACTION.into(),
        CcEvent::Unknown => UNKNOWN.into(),
    }
}

fn of_record(record: &Record) -> String {
    match record {
        Record::Start(start) => {
            let state = match (start.mode, start.state.is_some()) {
                (Mode::Ephemeral, _) => {
                    "It is new at each boot: it has no keys and no data from before"
                }
                (Mode::Persistent, false) => {
                    "It will be kept across boots, and starts from nothing"
                }
                (Mode::Persistent, true) => "It goes on from a state that was kept",
            };
            format!(
                "The TPM inside the trust domain, as it begins. {state}. Its keys are named here, so that the TD quote vouches for them."
            )
        }
        Record::Startup(StartupType::Clear) => {
            "The TPM was started: its PCRs begin anew.".into()
        }
        Record::Startup(StartupType::State) => {
            "The TPM was started with the PCRs that it had before.".into()
        }
        Record::Reset => "The machine was reset, and the TPM with it, as at a reboot.".into(),
        Record::Shutdown(_) => "The guest told the TPM that it is about to stop.".into(),
        Record::Clear => {
            "The TPM's owner was removed: keys and data of the owner are gone.".into()
        }
        Record::Hierarchy { .. } => "One of the TPM's hierarchies was changed: an authorization, a policy, or whether it can be used."
            .into(),
        Record::NvIndex { .. } => {
            "A place for data in the TPM that belongs to the platform, so to L1.".into()
        }
        Record::NvCommit { .. } => "The TPM's permanent memory changed: a key was kept, an index written, a counter moved.".into(),
        Record::PcrExtend { .. } => "The guest, or L1 for it, measured something into a PCR.".into(),
        Record::PcrReset { .. } => "A PCR that the guest may reset was set to zero.".into(),
        Record::PcrValue { .. } => "The value that a PCR kept over a restart.".into(),
        Record::PcrSummary { .. } => "How many times PCRs changed so far, and a digest of all of them: it must be that of the PCR values in this evidence."
            .into(),
        Record::Unlock(unlock) => {
            let rollback = match unlock.rollback {
                Rollback::Ledger => "The broker counts every change, so it is the last state that there was",
                Rollback::Lazy => "The broker counts changes, and may lack the last ones",
                Rollback::None => "Nothing says whether it is the last state that there was, or an older one that the host put in its place",
            };
            format!("The kept state was unlocked, for this machine and no other. {rollback}.")
        }
        Record::StateRefused { .. } => "The TPM's kept state was refused, or another machine has taken it: this TPM serves nobody any more."
            .into(),
        Record::LogFull { .. } => "There was no room for more. What became of the TPM afterwards is not known.".into(),
        _ => "A record that this version of the verifier cannot explain.".into(),
    }
}

/// An event of the TCG event log that L1 measures; `None` for others.
pub(super) fn of_pcr_event(event: &Event<'_>) -> Option<&'static str> {
    Some(match (event.register, event.data) {
        (0, launch::MRTD) => {
            "The trust domain's MRTD: the image of firmware and L1 that it was built from."
        }
        (0, data) if crate::explain::crtm_version(data).is_some() => {
            "The version of L1, the core of trust of this machine."
        }
        (1, launch::RTMR0) => {
            "The register RTMR0 as the firmware left it: the host's description of the machine."
        }
        (4, launch::KERNEL) => "The guest's kernel, as in RTMR1.",
        (8, data) if launch::command_line(data).is_some() => {
            "The parameters that L1 gave the kernel, as in RTMR2."
        }
        (9, launch::INITRD) => "The file system that the guest starts from, as in RTMR2.",
        (0..8, data) if data == launch::SEPARATOR => {
            "L1's part of this PCR ends here. What is extended later is the guest's."
        }
        _ => return None,
    })
}
