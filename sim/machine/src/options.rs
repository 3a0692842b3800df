//! The run's options: `-append "key=value ..."`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::arch::serial::Line;
use tdx_defs::Gpaw;
use virtio_host::PlannedLie;

/// How the TPM window is backed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// As the image's metadata asks.
    Accepted,
    /// The host gives no pages there, whatever the metadata says.
    Hole,
}

/// What the platform's CPUID shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpuid {
    /// All that QEMU's processor has.
    Full,
    /// Neither MCE, MTRR and MCA (leaf 1, EDX bits 7, 12 and 14) nor caches (leaves 2 and 4): what a host's
    /// configuration may take from a TD.
    Reduced,
}

/// `schedule=SEED:MOST`: lengths of the virtual processors' turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// The longest, in nanoseconds.
    pub(crate) most: u64,
}

impl Schedule {
    fn parse(text: &str) -> Option<Self> {
        let (seed, most) = text.split_once(':')?;
        Some(Self {
            seed: number(seed)?,
            most: number(most).filter(|&most| most != 0)?,
        })
    }
}

/// `share=US:PERIOD`: how much of the host's time a virtual processor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Microseconds that it runs in each period.
    pub(crate) run: u64,
    /// Microseconds of a period.
    pub(crate) period: u64,
}

impl Share {
    fn parse(text: &str) -> Option<Self> {
        let (run, period) = text.split_once(':')?;
        let share = Self {
            run: number(run)?,
            period: number(period)?,
        };
        (share.run != 0 && share.run <= share.period).then_some(share)
    }
}

/// Whether the TDX module gives sealing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// As release 1.5.34 and later, on a platform that can.
    On,
    /// As [`Sealing::On`], and the simulator prints each key: no host has it.
    Told,
    /// As earlier releases.
    Off,
}

/// `quote=VALUE`: what the host makes of GetQuote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Quote {
    /// `ok`: it has a quoting service.
    #[default]
    Ok,
    /// `none`: it has none, and says so in the buffer, as QEMU does.
    None,
    /// `refused`: the TDVMCALL is not supported.
    Refused,
    /// `late`: the quote takes two minutes.
    Late,
    /// `fail`: the service fails.
    Fail,
    /// `other-td`: a quote of a TD with another MRTD.
    OtherTd,
    /// `stale`: a quote of the request before.
    Stale,
    /// `garbage`: as many bytes as a quote has.
    Garbage,
    /// `truncated`: the first half of the quote.
    Truncated,
    /// `huge`: a length that goes beyond the buffer.
    Huge,
}

impl Quote {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ok" => Self::Ok,
            "none" => Self::None,
            "refused" => Self::Refused,
            "late" => Self::Late,
            "fail" => Self::Fail,
            "other-td" => Self::OtherTd,
            "stale" => Self::Stale,
            "garbage" => Self::Garbage,
            "truncated" => Self::Truncated,
            "huge" => Self::Huge,
            _ => return None,
        })
    }
}

/// `unmeasured=VALUE`: what the host writes into pages that it adds without MR.EXTEND, but for the TD HOB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unmeasured {
    /// `as-asked`: zeros, and the image's data where a section has some.
    #[default]
    AsAsked,
    /// `noise`: bytes of no meaning.
    Noise,
    /// `code`: in each page a mailbox that wakes every processor up, and the host's program.
    Code,
}

impl Unmeasured {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "as-asked" => Self::AsAsked,
            "noise" => Self::Noise,
            "code" => Self::Code,
            _ => return None,
        })
    }
}

/// Where a disk's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// `ram:BYTES`: in the simulator's memory, zero at first and lost at the end.
    Ram,
    /// `pci:DEVICE:BYTES`: in the file of the ivshmem-plain at this device number of QEMU's bus 0.
    File { device: u8 },
}

/// A disk of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) backing: Backing,
    /// Bytes.
    pub(crate) length: u64,
}

impl Disk {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (backing, length) = match (kind, rest.split_once(':')) {
            ("ram", None) => (Backing::Ram, rest),
            ("pci", Some((device, length))) => {
                let device = number(device)?
                    .try_into()
                    .ok()
                    .filter(|&device| device < 32)?;
                (Backing::File { device }, length)
            }
            _ => return None,
        };
        let length = number(length)?;
        Some(Self { backing, length })
    }
}

/// What a console is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// `com2`: QEMU's second serial port; `com3`: its serial port at COM3.
    Serial(Line),
    /// `echo`: itself.
    Echo,
    /// `nobody`: what is sent is taken, and nothing comes.
    Nobody,
}

impl Wire {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "com2" => Self::Serial(Line::Com2),
            "com3" => Self::Serial(Line::Com3),
            "echo" => Self::Echo,
            "nobody" => Self::Nobody,
            _ => return None,
        })
    }
}

/// What is on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// `services`: a computer of the host's that answers.
    Services,
}

/// Something the host or the module does wrong on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `busy:LEAF:N`: the next N calls of a TDCALL leaf find a lock taken.
    Busy { leaf: u64, times: u32 },
    /// `hold:LEAF:INDEX:EVERY`: at every so many calls of a TDCALL leaf that takes a lock, the virtual processor stays inside
    /// it while others have a turn.
    Hold { leaf: u64, vcpu: u32, every: u64 },
    /// `host-priority:LEAF:N:US`: N times the host has found the lock of a TDCALL leaf taken and waits for so many
    /// microseconds before it calls again; meanwhile the lock is busy.
    HostPriority {
        leaf: u64,
        times: u32,
        microseconds: u64,
    },
    /// `interrupt:LEAF:N`: the next N calls of an interruptible TDCALL leaf are cut short.
    Interrupt { leaf: u64, times: u32 },
    /// `host-route:REASON:N`: every N-th L2 exit or later, one of this reason goes to the host,
    /// which lets L1 see it.
    HostRoute { reason: u32, every: u64 },
    /// `l1-interrupt:N`: at every N-th L2 exit L1's timer interrupt comes, due or not.
    LocalInterrupt { every: u64 },
    /// `l1-interrupt:random:SEED`: at entries of L2 chosen by the seed, one in about four, L1's timer interrupt
    /// is pending, due or not: TDG.VP.ENTER does not enter.
    PendingInterrupt { seed: u64 },
    /// `tdvmcall-nonsense:WHAT`: the host answers a TDVMCALL sub-function, or `all`, with
    /// nonsense.
    TdvmcallNonsense { what: String },
    /// `fwcfg-size:ITEM:VALUE`: an item of fw_cfg that holds a size holds this one.
    FwCfgSize { item: u16, value: u32 },
    /// `fwcfg-changes:ITEM`: the last byte of an item of fw_cfg is another one each time that it is read anew by DMA.
    FwCfgChanges { item: u16 },
    /// `no-fwcfg`: there is no fw_cfg device.
    NoFwCfg,
    /// `ipi-drop:EVERY`: every so many interrupts of one virtual processor for others are lost.
    InterruptsLost { every: u64 },
    /// `ipi-delay:US`: such interrupts come so many microseconds late.
    InterruptsLate { microseconds: u64 },
    /// `ipi-extra:EVERY`: at every so many TD exits, a virtual processor gets one that nobody sent, with the vector of the
    /// last that somebody did.
    InterruptsInvented { every: u64 },
    /// `vp-stall:INDEX:MS`: a virtual processor has a turn every so many milliseconds, and no sooner.
    ProcessorStalls { index: u32, milliseconds: u64 },
    /// `vp-stop:INDEX:MS`: a virtual processor is never entered again from that time on, wherever it was.
    ProcessorStops { index: u32, milliseconds: u64 },
    /// `vp-never:INDEX`: a virtual processor is never entered.
    ProcessorNeverRuns { index: u32 },
    /// `virtio:DEVICE:LIE`: a virtio device lies.
    Virtio { device: String, lie: PlannedLie },
}

/// All options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `gpaw=48|52`
    pub(crate) gpaw: Gpaw,
    /// `memory=MIB`: the TD's RAM in bytes.
    pub(crate) memory: u64,
    /// `window=accepted|hole`
    pub(crate) window: Window,
    /// `l2vms=N`: NUM_L2_VMS.
    pub(crate) l2_vms: u8,
    /// `vcpus=N`: MAX_VCPUS, and how many the host creates.
    pub(crate) vcpus: u16,
    /// `threads=1`: each virtual processor has a processor of the machine's, and all run at once.
    pub(crate) threads: bool,
    /// The first option that only turns have.
    only_with_turns: Option<String>,
    /// `schedule=SEED:MOST`: random lengths of their turns.
    pub(crate) schedule: Option<Schedule>,
    /// `share=US:PERIOD`: each virtual processor runs so many microseconds of every period, and no more.
    pub(crate) share: Option<Share>,
    /// `first=INDEX`: the host runs this virtual processor before number 0, until it waits, ends the run or has had its
    /// time.
    pub(crate) first: Option<u32>,
    /// `apic-ids=ID,...`: what the host tells each virtual processor, by its index, of its APIC id, and calls it by; the
    /// index where the list ends.
    pub(crate) apic_ids: Vec<u32>,
    /// `late=INDEX:MS`, any number of times: the host does not enter this virtual processor before that time.
    pub(crate) late: Vec<(u32, u64)>,
    /// `unmeasured=VALUE`
    pub(crate) unmeasured: Unmeasured,
    /// `payload-info=TYPE`: a TD_PAYLOAD_INFO HOB in the TD HOB, with this image type.
    pub(crate) payload_info: Option<u32>,
    /// `test=NAME`: run micro-guests instead of an image.
    pub(crate) test: Option<String>,
    /// `mrconfigid=HEX`: MRCONFIGID, 48 bytes in hexadecimal.
    pub(crate) mrconfigid: [u8; 48],
    /// `quote=VALUE`
    pub(crate) quote: Quote,
    /// `fwcfg=NAME:VALUE`, any number of times: files of fw_cfg, as QEMU's
    /// `-fw_cfg name=NAME,string=VALUE`.
    pub(crate) fw_cfg_files: Vec<(String, String)>,
    /// `state-disk=DISK`
    pub(crate) state_disk: Option<Disk>,
    /// `state-place=DEVICE`: its device number.
    pub(crate) state_place: u8,
    /// `disk=DISK`, any number of times.
    pub(crate) disks: Vec<Disk>,
    /// `disk-name=NAME`: what GET_ID says of the first of them.
    pub(crate) disk_name: Option<String>,
    /// `console=com2|com3|echo|nobody`
    pub(crate) console: Option<Wire>,
    /// `guest-console=com2|com3|echo`, any number of times.
    pub(crate) guest_consoles: Vec<Wire>,
    /// `network=services`
    pub(crate) network: Option<Network>,
    /// `broker-vsock=com2|com3|echo`, in place of `console`.
    pub(crate) broker_vsock: Option<Wire>,
    /// `vsock=CID`
    pub(crate) vsock: Option<u64>,
    /// `assign=DEVICE`, any number of times: function 0 of this device of QEMU's bus 0 is the TD's.
    pub(crate) assigned: Vec<u8>,
    /// `cpuid=full|reduced`
    pub(crate) cpuid: Cpuid,
    /// `fault=FAULT,...`
    pub(crate) faults: Vec<Fault>,
    /// `watchdog=SECONDS` of virtual time without progress, here in milliseconds; 0 for none.
    pub(crate) watchdog: u64,
    /// `marks=1`: L2's writes to port 0x80 print the counters.
    pub(crate) marks: bool,
    /// `debug=1`: the TD has ATTRIBUTES.DEBUG.
    pub(crate) debug: bool,
    /// `sealing=on|told|off`: whether module and platform have TDG.MR.KEY.GET.
    pub(crate) sealing: Sealing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gpaw: Gpaw::Bits52,
            memory: 1024 << 20,
            window: Window::Accepted,
            l2_vms: 1,
            vcpus: 1,
            threads: false,
            only_with_turns: None,
            schedule: None,
            share: None,
            first: None,
            apic_ids: Vec::new(),
            late: Vec::new(),
            unmeasured: Unmeasured::AsAsked,
            payload_info: None,
            test: None,
            mrconfigid: [0; 48],
            quote: Quote::Ok,
            fw_cfg_files: Vec::new(),
            state_disk: None,
            state_place: 1,
            disks: Vec::new(),
            disk_name: None,
            console: None,
            guest_consoles: Vec::new(),
            network: None,
            broker_vsock: None,
            vsock: None,
            assigned: Vec::new(),
            cpuid: Cpuid::Full,
            faults: Vec::new(),
            watchdog: 60_000,
            marks: false,
            debug: false,
            sealing: Sealing::On,
        }
    }
}

/// An option that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadOption(String);

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {:?} is not understood", self.0)
    }
}

impl Options {
    /// Reads the command line.
    pub(crate) fn parse(command_line: &str) -> Result<Self, BadOption> {
        let mut options = Self::default();
        for word in command_line.split_ascii_whitespace() {
            options
                .set(word)
                .ok_or_else(|| BadOption(word.to_string()))?;
            if options.only_with_turns.is_none() && needs_turns(word) {
                options.only_with_turns = Some(word.to_string());
            }
        }
        options.check_threads()?;
        Ok(options)
    }

    fn set(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "gpaw" => self.gpaw = Gpaw::from_bits(number(value)?)?,
            "memory" => self.memory = number(value)?.checked_mul(1 << 20)?,
            "window" => {
                self.window = match value {
                    "accepted" => Window::Accepted,
                    "hole" => Window::Hole,
                    _ => return None,
                }
            }
            "cpuid" => {
                self.cpuid = match value {
                    "full" => Cpuid::Full,
                    "reduced" => Cpuid::Reduced,
                    _ => return None,
                }
            }
            "l2vms" => self.l2_vms = number(value)?.try_into().ok()?,
            "vcpus" => {
                let vcpus = number(value)?.try_into().ok();
                self.vcpus = vcpus.filter(|&vcpus| vcpus != 0)?;
            }
            "threads" => self.threads = number(value)? != 0,
            "schedule" => self.schedule = Some(Schedule::parse(value)?),
            "share" => self.share = Some(Share::parse(value)?),
            "first" => self.first = Some(number(value)?.try_into().ok()?),
            "apic-ids" => {
                let id = |id| number(id)?.try_into().ok();
                self.apic_ids = value.split(',').map(id).collect::<Option<_>>()?;
            }
            "late" => {
                let (index, milliseconds) = value.split_once(':')?;
                let index = number(index)?.try_into().ok()?;
                self.late.push((index, number(milliseconds)?));
            }
            "unmeasured" => self.unmeasured = Unmeasured::parse(value)?,
            "payload-info" => self.payload_info = Some(number(value)?.try_into().ok()?),
            "mrconfigid" => self.mrconfigid = bytes(value)?,
            "quote" => self.quote = Quote::parse(value)?,
            "fwcfg" => {
                let (name, content) = value.split_once(':')?;
                self.fw_cfg_files
                    .push((name.to_string(), content.to_string()));
            }
            "state-disk" => self.state_disk = Some(Disk::parse(value)?),
            "state-place" => {
                let place = number(value)?.try_into().ok();
                self.state_place = place.filter(|place| (1..32).contains(place))?;
            }
            "disk" => self.disks.push(Disk::parse(value)?),
            "disk-name" => self.disk_name = Some(value.to_string()),
            "console" => self.console = Some(Wire::parse(value)?),
            "guest-console" => self.guest_consoles.push(Wire::parse(value)?),
            "network" => {
                self.network = Some(match value {
                    "services" => Network::Services,
                    _ => return None,
                });
            }
            "broker-vsock" => self.broker_vsock = Some(Wire::parse(value)?),
            "vsock" => self.vsock = Some(number(value)?),
            "assign" => {
                let device = number(value)?.try_into().ok()?;
                self.assigned
                    .push(Some(device).filter(|&device| device < 32)?);
            }
            "test" => self.test = Some(value.to_string()),
            "fault" => {
                for fault in value.split(',') {
                    self.faults.push(parse_fault(fault)?);
                }
            }
            "watchdog" => self.watchdog = number(value)?.checked_mul(1000)?,
            "marks" => self.marks = number(value)? != 0,
            "debug" => self.debug = number(value)? != 0,
            "sealing" => {
                self.sealing = match value {
                    "on" => Sealing::On,
                    "told" => Sealing::Told,
                    "off" => Sealing::Off,
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }
}

impl Options {
    /// Whether what there is goes with threads.
    fn check_threads(&self) -> Result<(), BadOption> {
        let most = crate::hardware::runners::MOST;
        match &self.only_with_turns {
            _ if !self.threads => Ok(()),
            Some(word) => Err(BadOption(alloc::format!("{word} (not with threads=1)"))),
            None if usize::from(self.vcpus) > most => Err(BadOption(alloc::format!(
                "vcpus={} (at most {most} with threads=1)",
                self.vcpus
            ))),
            None => Ok(()),
        }
    }
}

/// Whether an option is about turns, or the order of what several virtual processors do.
fn needs_turns(word: &str) -> bool {
    const FAULTS: [&str; 4] = ["hold:", "vp-stall:", "vp-stop:", "vp-never:"];
    match word.split_once('=') {
        Some(("schedule" | "share" | "first" | "test", _)) => true,
        Some(("fault", faults)) => faults
            .split(',')
            .any(|fault| FAULTS.iter().any(|name| fault.starts_with(name))),
        _ => false,
    }
}

fn parse_fault(text: &str) -> Option<Fault> {
    if let Some(rest) = text.strip_prefix("virtio:") {
        let (device, lie) = rest.split_once(':')?;
        return Some(Fault::Virtio {
            device: device.to_string(),
            lie: PlannedLie::parse(lie)?,
        });
    }
    let mut parts = text.split(':');
    let name = parts.next()?;
    let mut next = || parts.next();
    let fault = match name {
        "busy" => Fault::Busy {
            leaf: number(next()?)?,
            times: number(next()?)?.try_into().ok()?,
        },
        "hold" => Fault::Hold {
            leaf: number(next()?)?,
            vcpu: number(next()?)?.try_into().ok()?,
            every: number(next()?).filter(|&every| every != 0)?,
        },
        "host-priority" => Fault::HostPriority {
            leaf: number(next()?)?,
            times: number(next()?)?.try_into().ok()?,
            microseconds: number(next()?)?,
        },
        "interrupt" => Fault::Interrupt {
            leaf: number(next()?)?,
            times: number(next()?)?.try_into().ok()?,
        },
        "host-route" => Fault::HostRoute {
            reason: number(next()?)?.try_into().ok()?,
            every: number(next()?)?,
        },
        "l1-interrupt" => match next()? {
            "random" => Fault::PendingInterrupt {
                seed: number(next()?)?,
            },
            every => Fault::LocalInterrupt {
                every: number(every)?,
            },
        },
        "tdvmcall-nonsense" => Fault::TdvmcallNonsense {
            what: next()?.to_string(),
        },
        "fwcfg-size" => Fault::FwCfgSize {
            item: number(next()?)?.try_into().ok()?,
            value: number(next()?)?.try_into().ok()?,
        },
        "fwcfg-changes" => Fault::FwCfgChanges {
            item: number(next()?)?.try_into().ok()?,
        },
        "no-fwcfg" => Fault::NoFwCfg,
        "ipi-drop" => Fault::InterruptsLost {
            every: number(next()?).filter(|&every| every != 0)?,
        },
        "ipi-delay" => Fault::InterruptsLate {
            microseconds: number(next()?)?,
        },
        "ipi-extra" => Fault::InterruptsInvented {
            every: number(next()?).filter(|&every| every != 0)?,
        },
        "vp-stall" => Fault::ProcessorStalls {
            index: number(next()?)?.try_into().ok()?,
            milliseconds: number(next()?)?,
        },
        "vp-stop" => Fault::ProcessorStops {
            index: number(next()?)?.try_into().ok()?,
            milliseconds: number(next()?)?,
        },
        "vp-never" => Fault::ProcessorNeverRuns {
            index: number(next()?)?.try_into().ok()?,
        },
        _ => return None,
    };
    parts.next().is_none().then_some(fault)
}

/// A decimal number, or a hexadecimal one after `0x`.
/// As many bytes as there have to be, in hexadecimal.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (digits, rest) = text.as_bytes().as_chunks::<2>();
    if digits.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
