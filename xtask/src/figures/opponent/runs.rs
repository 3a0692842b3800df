//! The runs: the timing program in guests of KVM's and in L2.

use crate::figures::guests::{TIMING_WORDS, on_simulator};
use crate::{opponent_initrd, progress};
use anyhow::{Result, ensure};
use attestation::journal::TpmInterface;
use boots::{BASE_COMMAND_LINE, LIMIT, Setup, each_access_exits, interface_option};
use simulator::{BootFiles, KvmHost, Run};
use std::path::Path;

/// The host's memory in MiB: the guest has 1 GiB of it, and the initrd is unpacked there.
const MEMORY_MIB: u64 = 2560;
/// The TPM's interfaces as QEMU's devices, FIFO first.
const DEVICES: [&str; 2] = ["tpm-tis", "tpm-crb"];
/// Words of the guest's command line; the FIFO interface is polled, as ours.
const GUEST_WORDS: [&str; 3] = ["quiet", "tpm_tis.interrupts=0", "tdp.mode=timing"];

/// All of them; of two, FIFO first, then CRB.
pub(crate) struct Runs {
    /// In guests of KVM's.
    pub(crate) kvm: [Run; 2],
    /// The same with their exits, which takes its time.
    pub(crate) traced: [Run; 2],
    /// In L2.
    pub(crate) ours: [Run; 2],
    /// The same by FIFO, each access an exit.
    pub(crate) each: Run,
}

impl Runs {
    /// Boots seven times; the initrd has the timing program.
    pub(crate) fn new(setup: &Setup, initrd: &Path) -> Result<Self> {
        let step = progress::step("timing commands in L2: three boots");
        let interfaces = [TpmInterface::Fifo, TpmInterface::Crb];
        let [fifo, crb] = interfaces.map(|interface| {
            let name = format!("timing-{}", interface.word());
            on_simulator(
                setup,
                initrd,
                TIMING_WORDS,
                &name,
                &[interface_option(interface)],
            )
        });
        let each = on_simulator(
            setup,
            initrd,
            TIMING_WORDS,
            "timing-exits",
            &[each_access_exits()],
        )?;
        let ours = [fifo?, crb?];
        step.done();
        let step = progress::step("timing commands in guests of QEMU/KVM with swtpm: four boots");
        let host = opponent_initrd::build(setup, initrd)?;
        let [fifo, crb] = DEVICES.map(|device| under_kvm(setup, &host, device, ""));
        let kvm = [fifo?, crb?];
        let [fifo, crb] = DEVICES.map(|device| under_kvm(setup, &host, device, " opponent.trace"));
        let traced = [fifo?, crb?];
        step.done();
        Ok(Self {
            kvm,
            traced,
            ours,
            each,
        })
    }
}

fn under_kvm(setup: &Setup, initrd: &Path, device: &str, trace: &str) -> Result<Run> {
    let guest = GUEST_WORDS.map(|word| format!(" guest.{word}")).concat();
    let command_line = format!("{BASE_COMMAND_LINE} quiet opponent.device={device}{trace}{guest}");
    let run = KvmHost {
        boot: BootFiles {
            kernel: &setup.kernel,
            initrd: Some(initrd),
            command_line: &command_line,
        },
        memory_mib: MEMORY_MIB,
        limit: LIMIT,
    }
    .run(&mut |_| {})?;
    ensure!(run.succeeded, "KVM's host did not power off");
    Ok(run)
}
