//! Virtio devices of the simulated host, as arguments of QEMU and options of the simulator.

use crate::kept;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a state disk that is made.
const STATE_DISK: u64 = 4 << 20;
/// Device number of the state disk on QEMU's own bus; the guest's disks are behind it.
const FIRST_DEVICE: usize = 0x10;
/// How many disks there is room for.
const DISKS: usize = 8;
/// Device numbers of QEMU's own console, network and disk without a medium; q35 has functions of its own from 0x1F down.
const CONSOLE_DEVICE: usize = FIRST_DEVICE + DISKS;
const NETWORK_DEVICE: usize = CONSOLE_DEVICE + 1;
/// The guest's console, behind L1's: of two the first is L1's.
const GUEST_CONSOLE_DEVICE: usize = NETWORK_DEVICE + 1;
/// A serial port at COM3's place, with the interrupt that the simulator expects of it.
const COM3: &str = "isa-serial,iobase=0x3e8,irq=5";
const NO_MEDIUM_DEVICE: usize = GUEST_CONSOLE_DEVICE + 1;
/// What QEMU's virtio devices have to be like for a TD: modern, and behind the IOMMU.
const FOR_TD: &str = "disable-legacy=on,iommu_platform=on";
/// GET_ID of the state disk.
const STATE_DISK_NAME: &str = "tdp-vtpm-state";
/// The least that a disk's memory is, and of what a disk is a multiple.
const PAGE: u64 = 4096;
const SECTOR: u64 = 512;

/// Whose virtio devices these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Models {
    /// The simulator's, in its host's role: the same in each run, and able to lie.
    #[default]
    Own,
    /// QEMU's, behind its IOMMU, which lets them reach what the TD shares. They take the host's time.
    Qemu,
}

impl Models {
    /// What [`from_word`](Self::from_word) takes.
    pub const WORDS: [&str; 2] = ["own", "qemu"];

    /// The models that this word names.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "own" => Some(Self::Own),
            "qemu" => Some(Self::Qemu),
            _ => None,
        }
    }
}

/// The guest's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// None.
    #[default]
    None,
    /// One computer, 10.0.2.2, as `docs/simulator.md` tells of it.
    Own,
    /// QEMU's virtio-net and its user-mode network: 10.0.2.2 answers.
    Qemu(Outside),
}

/// Where QEMU's user-mode network leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Nowhere.
    Nothing,
    /// Where this machine's does: its own ports are 10.0.2.2's.
    Host,
}

/// QEMU's user-mode network `network`, as its arguments.
pub(crate) fn user_network(outside: Outside) -> [&'static str; 2] {
    let network = match outside {
        Outside::Nothing => "user,id=network,restrict=on",
        Outside::Host => "user,id=network",
    };
    ["-netdev", network]
}

/// A raw image in `file` as QEMU's drive `id`, the same for every machine.
pub(crate) fn drive(id: &str, file: &Path) -> Result<String> {
    let file = escaped(file)?;
    Ok(format!(
        "if=none,id={id},format=raw,discard=unmap,file={file}"
    ))
}

/// A disk of so many bytes that has no medium: it reads as zero, and takes what is written. It answers before the
/// notification of a request returns, so that what it takes is instructions alone. As QEMU's drive and device.
pub(crate) fn no_medium(bytes: u64) -> [String; 2] {
    [
        format!("if=none,id=none,driver=null-co,size={bytes},read-zeroes=on"),
        "virtio-blk-pci,drive=none,ioeventfd=off".to_owned(),
    ]
}

/// What device is before the broker's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokerBy {
    /// A console.
    #[default]
    Console,
    /// The simulator's sockets.
    Vsock,
}

impl BrokerBy {
    /// What [`from_word`](Self::from_word) takes.
    pub const WORDS: [&str; 2] = ["console", "vsock"];

    /// The device that this word names.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "console" => Some(Self::Console),
            "vsock" => Some(Self::Vsock),
            _ => None,
        }
    }
}

/// What the host has besides a console and fw_cfg.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDevices<'a> {
    /// Whose the disks and the console are.
    pub models: Models,
    /// The guest's network.
    pub network: Network,
    /// The file with L1's state; made if it does not exist.
    pub state_disk: Option<&'a Path>,
    /// Files with the guest's disks.
    pub disks: &'a [PathBuf],
    /// Bytes of a disk of QEMU's for the guest that has no medium: it reads as zero, and answers at once.
    pub no_medium: Option<u64>,
    /// A Unix socket that somebody listens on: the other end of the console. The run's idle time then passes as the
    /// host's, whatever its clock is.
    pub broker_socket: Option<&'a Path>,
    /// What L1 reaches it by.
    pub broker_by: BrokerBy,
    /// The other end of a console of the guest's: a Unix socket that somebody listens on, or a file, which is made and
    /// gets what the guest writes.
    pub guest_console: Option<&'a Path>,
    /// The guest's address if it has sockets: the simulator's, at whose port 7 it is sent what it sends.
    pub vsock: Option<u32>,
}

/// A file that QEMU maps while this lives. Nobody else runs with it meanwhile.
struct Mapped {
    file: File,
    /// What it is cut back to: QEMU maps powers of two.
    length: u64,
    models: Models,
}

impl Mapped {
    fn open(path: &Path, new: Option<u64>, models: Models) -> Result<Self> {
        let context = || format!("disk {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(new.is_some())
            .truncate(false)
            .open(path)
            .with_context(context)?;
        ensure!(
            kept::is_free(&file).with_context(context)?,
            "disk {} is in use by another run",
            path.display()
        );
        let mut length = file.metadata().with_context(context)?.len();
        if let Some(new) = new
            && length == 0
        {
            file.set_len(new).with_context(context)?;
            length = new;
        }
        ensure!(
            length != 0 && length.is_multiple_of(SECTOR),
            "disk {} has {length} bytes, which are no whole sectors",
            path.display()
        );
        let mapped = Self {
            file,
            length,
            models,
        };
        mapped.file.set_len(mapped.memory()).with_context(context)?;
        Ok(mapped)
    }

    /// Bytes that the file has meanwhile.
    fn memory(&self) -> u64 {
        match self.models {
            Models::Own => self.length.next_power_of_two().max(PAGE),
            Models::Qemu => self.length,
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.memory() != self.length
            && let Err(error) = self.file.set_len(self.length)
        {
            eprintln!("note: a disk keeps zeroes at its end: {error}");
        }
    }
}

/// What a run's devices hold until it has ended.
pub(crate) struct Attached(#[expect(dead_code, reason = "held")] Vec<Mapped>);

impl HostDevices<'_> {
    /// Whether somebody outside is waited for.
    pub(crate) fn hear_the_outside(&self) -> bool {
        self.broker_socket.is_some()
            || self.have_qemus()
            || self.guest_console.is_some_and(is_socket)
    }

    /// Whether a device is QEMU's.
    fn have_qemus(&self) -> bool {
        let consoles = [self.broker_socket, self.guest_console];
        let any = self.state_disk.is_some()
            || !self.disks.is_empty()
            || consoles.iter().any(Option::is_some);
        matches!(self.network, Network::Qemu(_))
            || self.no_medium.is_some()
            || self.models == Models::Qemu && any
    }

    /// Adds them to QEMU's arguments and to the simulator's options.
    pub(crate) fn attach(&self, command: &mut Command, options: &mut String) -> Result<Attached> {
        if self.have_qemus() {
            // Before the devices behind it.
            command.args(["-device", "intel-iommu,intremap=off"]);
        }
        let mut files = Vec::new();
        if let Some(path) = self.state_disk {
            files.push((
                path,
                "state-disk",
                STATE_DISK_NAME.to_owned(),
                Some(STATE_DISK),
            ));
        }
        files.extend((0..).zip(self.disks).map(|(number, path)| {
            let name = format!("disk{number}");
            (&**path, "disk", name, None)
        }));
        ensure!(files.len() <= DISKS, "more than {DISKS} disks");
        let mut held = Vec::new();
        for (number, (path, option, name, new)) in (FIRST_DEVICE..).zip(files) {
            let mapped = Mapped::open(path, new, self.models)?;
            let (length, memory) = (mapped.length, mapped.memory());
            if self.models == Models::Qemu {
                command
                    .arg("-drive")
                    .arg(drive(&format!("disk{number}"), path)?);
                let disk = format!("virtio-blk-pci,drive=disk{number},serial={name}");
                assign(command, options, &disk, number);
                held.push(mapped);
                continue;
            }
            let path = escaped(path)?;
            command
                .arg("-object")
                .arg(format!(
                    "memory-backend-file,id=disk{number},share=on,mem-path={path},size={memory}"
                ))
                .arg("-device")
                .arg(format!(
                    "ivshmem-plain,memdev=disk{number},addr={number:#x}"
                ));
            options.push_str(&format!(" {option}=pci:{number}:{length}"));
            held.push(mapped);
        }
        if let Some(bytes) = self.no_medium {
            let [drive, device] = no_medium(bytes);
            command.arg("-drive").arg(drive);
            assign(command, options, &device, NO_MEDIUM_DEVICE);
        }
        if let Some(path) = self.broker_socket {
            std::fs::metadata(path).with_context(|| path.display().to_string())?;
            if !is_socket(path) {
                bail!("{} is no socket", path.display());
            }
            let path = escaped(path)?;
            command
                .arg("-chardev")
                .arg(format!("socket,id=broker,path={path}"));
            match (self.broker_by, self.models) {
                (BrokerBy::Vsock, _) => {
                    command.args(["-serial", "chardev:broker"]);
                    options.push_str(" broker-vsock=com2");
                }
                (BrokerBy::Console, Models::Own) => {
                    command.args(["-serial", "chardev:broker"]);
                    options.push_str(" console=com2");
                }
                (BrokerBy::Console, Models::Qemu) => {
                    let device = "virtio-serial-pci,id=console,max_ports=1";
                    assign(command, options, device, CONSOLE_DEVICE);
                    command.args(["-device", "virtconsole,bus=console.0,chardev=broker"]);
                }
            }
        }
        if let Some(path) = self.guest_console {
            let kind = if is_socket(path) { "socket" } else { "file" };
            let path = escaped(path)?;
            command
                .arg("-chardev")
                .arg(format!("{kind},id=guest-console,path={path}"));
            match self.models {
                Models::Own => {
                    let port = format!("{COM3},chardev=guest-console");
                    command.arg("-device").arg(port);
                    options.push_str(" guest-console=com3");
                }
                Models::Qemu => {
                    let device = "virtio-serial-pci,id=guest-console,max_ports=1";
                    assign(command, options, device, GUEST_CONSOLE_DEVICE);
                    let port = "virtconsole,bus=guest-console.0,chardev=guest-console";
                    command.args(["-device", port]);
                }
            }
        }
        if let Some(cid) = self.vsock {
            options.push_str(&format!(" vsock={cid}"));
        }
        match self.network {
            Network::None => {}
            Network::Own => options.push_str(" network=services"),
            Network::Qemu(outside) => {
                command.args(user_network(outside));
                let device = "virtio-net-pci,netdev=network,romfile=";
                assign(command, options, device, NETWORK_DEVICE);
            }
        }
        Ok(Attached(held))
    }
}

/// Adds a virtio device of QEMU's at a device number, and gives it to the TD.
fn assign(command: &mut Command, options: &mut String, device: &str, number: usize) {
    command
        .arg("-device")
        .arg(format!("{device},{FOR_TD},addr={number:#x}"));
    options.push_str(&format!(" assign={number}"));
}

/// Whether this is a Unix socket.
fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// A path as a part of a list of QEMU's.
pub(crate) fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str();
    let text = text.with_context(|| format!("{} is no UTF-8", path.display()))?;
    Ok(text.replace(',', ",,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        let words = command.get_args();
        words
            .map(|word| word.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_disk_is_mapped_as_a_power_of_two_and_cut_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a,b");
        let disk = folder.path().join("disk");
        std::fs::write(&disk, [7; 3 * 512]).unwrap();
        let devices = HostDevices {
            state_disk: Some(&state),
            disks: std::slice::from_ref(&disk),
            ..HostDevices::default()
        };
        let mut command = Command::new("qemu");
        let mut options = String::new();
        let held = devices.attach(&mut command, &mut options).unwrap();
        assert_eq!(options, " state-disk=pci:16:4194304 disk=pci:17:1536");
        let words = words(&command);
        assert!(words[1].contains("a,,b,size=4194304"), "{words:?}");
        assert!(words[5].ends_with("disk,size=4096"), "{words:?}");
        assert_eq!(words[7], "ivshmem-plain,memdev=disk17,addr=0x11");
        assert_eq!(std::fs::metadata(&disk).unwrap().len(), 4096);
        let again = devices.attach(&mut command, &mut options).err().unwrap();
        assert!(again.to_string().contains("in use"), "{again}");
        drop(held);
        assert_eq!(std::fs::read(&disk).unwrap(), [7; 3 * 512]);
        assert_eq!(std::fs::metadata(&state).unwrap().len(), 4 << 20);
        drop(devices.attach(&mut command, &mut options).unwrap());
    }

    #[test]
    fn devices_of_qemu_are_behind_the_iommu() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let devices = HostDevices {
            models: Models::Qemu,
            network: Network::Qemu(Outside::Nothing),
            state_disk: Some(&state),
            no_medium: Some(0x1000),
            ..HostDevices::default()
        };
        let mut command = Command::new("qemu");
        let mut options = String::new();
        let held = devices.attach(&mut command, &mut options).unwrap();
        assert_eq!(options, " assign=16 assign=27 assign=25");
        assert!(devices.hear_the_outside());
        let words = words(&command);
        assert_eq!(words[1], "intel-iommu,intremap=off", "before the others");
        assert!(words.contains(&"user,id=network,restrict=on".to_owned()));
        for device in ["virtio-blk-pci", "virtio-net-pci"] {
            let word = words.iter().find(|word| word.starts_with(device));
            assert!(word.unwrap().contains("iommu_platform=on"), "{words:?}");
        }
        assert_eq!(std::fs::metadata(&state).unwrap().len(), 4 << 20);
        drop(held);
        let none = HostDevices {
            models: Models::Qemu,
            ..HostDevices::default()
        };
        assert!(!none.hear_the_outside(), "QEMU's, but none");
        assert!(words.contains(&no_medium(0x1000)[0]), "{words:?}");
        let own = HostDevices {
            network: Network::Own,
            ..HostDevices::default()
        };
        let mut options = String::new();
        own.attach(&mut command, &mut options).unwrap();
        assert_eq!(options, " network=services");
        assert!(!own.hear_the_outside());
    }

    #[test]
    fn a_guest_has_a_console_in_a_file_and_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("console");
        let mut devices = HostDevices {
            guest_console: Some(&file),
            vsock: Some(3),
            ..HostDevices::default()
        };
        let attached = |devices: &HostDevices<'_>| {
            let mut command = Command::new("qemu");
            let mut options = String::new();
            devices.attach(&mut command, &mut options).unwrap();
            (words(&command), options)
        };
        let (own, options) = attached(&devices);
        assert_eq!(options, " guest-console=com3 vsock=3");
        assert!(own[1].starts_with("file,id=guest-console,path="), "{own:?}");
        assert!(own[3].contains("iobase=0x3e8"), "{own:?}");
        assert!(!devices.hear_the_outside());
        devices.models = Models::Qemu;
        let (qemu, options) = attached(&devices);
        assert_eq!(options, " assign=26 vsock=3", "behind L1's console");
        assert!(qemu.iter().any(|word| word.starts_with("virtconsole")));
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        devices = HostDevices {
            guest_console: Some(&socket),
            ..HostDevices::default()
        };
        let (own, _) = attached(&devices);
        assert!(own[1].starts_with("socket,"), "{own:?}");
        assert!(devices.hear_the_outside());
    }

    #[test]
    fn what_is_no_disk_or_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, [0; 100]).unwrap();
        let missing = folder.path().join("missing");
        let refused = |disks: &[PathBuf], socket: Option<&Path>| {
            let devices = HostDevices {
                disks,
                broker_socket: socket,
                ..HostDevices::default()
            };
            let attached = devices.attach(&mut Command::new("qemu"), &mut String::new());
            format!("{:#}", attached.err().unwrap())
        };
        let length = refused(std::slice::from_ref(&file), None);
        assert!(length.contains("100 bytes"), "{length}");
        let nothing = refused(std::slice::from_ref(&missing), None);
        assert!(nothing.contains("No such file"), "{nothing}");
        assert!(!missing.exists());
        let socket = refused(&[], Some(&file));
        assert!(socket.ends_with("is no socket"), "{socket}");
    }
}
