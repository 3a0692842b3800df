//! Plain QEMU with the same kernel and initrd: what the simulator is compared with.

use crate::devices::{Outside, drive, no_medium, user_network};
use crate::qemu::{self, BootFiles, Clock, Run};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// QEMU's exit status after a power-off.
const SUCCESS: i32 = 0;

/// A run of a guest without TDX.
pub struct PlainQemu<'a> {
    /// What boots.
    pub boot: BootFiles<'a>,
    /// The machine's memory in MiB.
    pub memory_mib: u64,
    /// How many processors it has.
    pub cpus: u32,
    /// How time passes.
    pub clock: Clock,
    /// The control socket of a running swtpm.
    pub tpm_socket: Option<&'a Path>,
    /// A raw image, which the guest sees as a modern virtio block device and may write to. It answers in the host's
    /// time: no `Clock::Counted` with it, which would skip the wait and let the guest's time-outs fire.
    pub disk: Option<&'a Path>,
    /// Bytes of a disk that has no medium, as [`crate::HostDevices`] has it.
    pub no_medium: Option<u64>,
    /// A network of QEMU's user mode, with the same restriction.
    pub network: Option<Outside>,
    /// The run is ended after this much of the host's time.
    pub limit: Duration,
}

impl PlainQemu<'_> {
    /// Runs to the guest's power-off; `on_line` sees each line of the guest's console as it comes.
    pub fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<Run> {
        let cpu = "max,vendor=GenuineIntel";
        let mut command = qemu::command(cpu, self.memory_mib, self.clock, qemu::SEED);
        command.args(["-smp", &self.cpus.to_string()]);
        command.arg("-kernel").arg(self.boot.kernel);
        if let Some(initrd) = self.boot.initrd {
            command.arg("-initrd").arg(initrd);
        }
        command.args(["-append", self.boot.command_line]);
        if let Some(socket) = self.tpm_socket {
            command
                .arg("-chardev")
                .arg(format!("socket,id=tpm,path={}", socket.display()))
                .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm"])
                .args(["-device", "tpm-tis,tpmdev=tpm0"]);
        }
        if let Some(disk) = self.disk {
            command
                .arg("-drive")
                .arg(drive("disk", disk)?)
                .args(["-device", "virtio-blk-pci,drive=disk,disable-legacy=on"]);
        }
        if let Some(bytes) = self.no_medium {
            let [drive, device] = no_medium(bytes);
            let device = format!("{device},disable-legacy=on");
            command.arg("-drive").arg(drive).arg("-device").arg(device);
        }
        if let Some(outside) = self.network {
            command.args(user_network(outside)).args([
                "-device",
                "virtio-net-pci,netdev=network,romfile=,disable-legacy=on",
            ]);
        }
        let heard = qemu::listen(command, None, Some(self.limit), on_line)?;
        Ok(heard.into_run(SUCCESS, ""))
    }
}
