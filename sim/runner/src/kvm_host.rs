//! A host with KVM on the machine that else runs the simulator: its guest is what ours is compared with, and all that the
//! guest takes on the host is in the same count of instructions.

use crate::qemu::{self, BootFiles, Clock, Run};
use anyhow::Result;
use std::time::Duration;

/// QEMU's emulated processor with AMD's virtualization (SVM, nested paging); KVM looks at the vendor.
const CPU: &str = "max";
/// QEMU's exit status after a power-off.
const SUCCESS: i32 = 0;

/// A run of a Linux with KVM, one processor, whose instructions are counted.
pub struct KvmHost<'a> {
    /// What boots: the initrd has the virtual machine monitor and the guest.
    pub boot: BootFiles<'a>,
    /// The machine's memory in MiB.
    pub memory_mib: u64,
    /// The run is ended after this much of the host's time.
    pub limit: Duration,
}

impl KvmHost<'_> {
    /// Runs to the host's power-off; `on_line` sees each line of its console as it comes.
    pub fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<Run> {
        let mut command = qemu::command(CPU, self.memory_mib, Clock::Counted, qemu::SEED);
        command.arg("-kernel").arg(self.boot.kernel);
        if let Some(initrd) = self.boot.initrd {
            command.arg("-initrd").arg(initrd);
        }
        command.args(["-append", self.boot.command_line]);
        let heard = qemu::listen(command, None, Some(self.limit), on_line)?;
        Ok(heard.into_run(SUCCESS, ""))
    }
}
