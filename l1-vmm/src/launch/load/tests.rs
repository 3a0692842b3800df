//! A whole launch against a host that serves fw_cfg, honestly or not.

use super::*;
use crate::launch::boot::test_setup;
use crate::launch::fw_cfg::tests::{Fault, Host};
use crate::launch::plan::tests::plan;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use attestation::digest::Digests;
use attestation::launch::kernel_digests;
use attestation::pcr::PcrBanks;
use core::cell::RefCell;
use proptest::prelude::*;
use tdcall::Td;

/// L2's memory as the pages that were written.
struct Memory {
    plan: MemoryPlan,
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = Self::read(self, gpa, into.len());
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        let range = GpaRange::with_length(gpa, from.len() as u64).unwrap();
        if !self.plan.l2().contains(&range) {
            return Err(MemoryError { gpa });
        }
        for (at, byte) in (gpa..).zip(from) {
            let mut pages = self.pages.borrow_mut();
            let page = pages
                .entry(at & !0xFFF)
                .or_insert_with(|| vec![0xCC; 0x1000]);
            page[(at & 0xFFF) as usize] = *byte;
        }
        Ok(())
    }
}

impl Memory {
    fn read(&self, gpa: u64, length: usize) -> Vec<u8> {
        (gpa..gpa + length as u64)
            .map(|at| {
                self.pages
                    .borrow()
                    .get(&(at & !0xFFF))
                    .map_or(0xCC, |page| page[(at & 0xFFF) as usize])
            })
            .collect()
    }
}

const CODE: usize = 0x8000;
const COMMAND_LINE: &[u8] = b"console=ttyS0 quiet";

fn code() -> Vec<u8> {
    (0..CODE).map(|at| ((at * 31) >> 3) as u8).collect()
}

fn initrd() -> Vec<u8> {
    (0..12_345usize).map(|at| ((at * 17) >> 2) as u8).collect()
}

/// What QEMU offers for a kernel, an initrd and a command line.
fn host() -> Host {
    let mut host = Host::new(0x1800, Fault::None);
    let setup = test_setup(CODE as u32);
    host.set_size(Item::SetupSize, setup.len() as u32);
    host.set(Item::SetupData, &setup);
    host.set_size(Item::KernelSize, CODE as u32);
    host.set(Item::KernelData, &code());
    host.set_size(Item::InitrdSize, initrd().len() as u32);
    host.set(Item::InitrdData, &initrd());
    host.set_size(Item::CmdlineSize, COMMAND_LINE.len() as u32 + 1);
    host.set(Item::CmdlineData, &[COMMAND_LINE, b"\0"].concat());
    host
}

fn launch(host: &Host) -> (Result<LoadedGuest, LoadError>, Memory) {
    let plan = plan(0x1000_0000, 0, 64 << 20).unwrap();
    let memory = Memory {
        plan: plan.clone(),
        pages: RefCell::default(),
    };
    let td = Td::new(host);
    let result = FwCfg::open(&td, host)
        .map_err(LoadError::from)
        .and_then(|device| {
            load(
                &device,
                &plan,
                &memory,
                &Choices {
                    banks: PcrBanks::ALL,
                    interface: TpmInterface::Fifo,
                    pci: None,
                    processors: 1,
                    hashing: &Stopwatch::new(|| 0),
                },
            )
        });
    (result, memory)
}

#[test]
fn every_file_is_where_the_layout_says_and_measured_as_placed() {
    let (guest, memory) = launch(&host());
    let guest = guest.unwrap();
    let LaunchedImage {
        kernel,
        initrd: ramdisk,
        command_line,
        line,
    } = guest.image;
    assert_eq!(memory.read(guest.layout.kernel.start(), CODE), code());
    assert_eq!(
        kernel.range,
        GpaRange::with_length(0x100_0000, CODE as u64).unwrap()
    );
    let setup = test_setup(CODE as u32);
    let file = [setup.clone(), code()].concat();
    assert_eq!(kernel.digests, kernel_digests(&file));
    assert_eq!(kernel.measured_length, (setup.len() + CODE) as u64);
    let ramdisk = ramdisk.unwrap();
    assert_eq!(memory.read(ramdisk.range.start(), 12_345), initrd());
    assert_eq!(ramdisk.digests, Digests::of(&initrd()));
    assert_eq!(
        memory.read(0x2_0000, COMMAND_LINE.len() + 1),
        [COMMAND_LINE, b"\0"].concat()
    );
    assert_eq!(command_line.digests, Digests::of(COMMAND_LINE));
    assert_eq!(line, COMMAND_LINE);
    assert_eq!(guest.entry.rip, 0x100_0200);
}

#[test]
fn the_first_mib_is_a_pcs_without_a_bios() {
    let (guest, memory) = launch(&host());
    let guest = guest.unwrap();
    assert_eq!(memory.read(0, 0x1000), [0; 0x1000]);
    assert_eq!(memory.read(0x9_F000, 0x4_1000), [0; 0x4_1000]);
    assert_eq!(memory.read(0xE_0000, 8), *b"RSD PTR ");
    assert!(
        memory
            .read(0xE_0024, 0x1_FFCC)
            .iter()
            .all(|byte| *byte == 0)
    );
    // mov dx, 0CF9h; mov al, 6; out dx, al
    let reset = [0xBA, 0xF9, 0x0C, 0xB0, 0x06, 0xEE];
    assert_eq!(memory.read(0xF_FFF0, 6), reset);
    assert_eq!(memory.read(guest.entry.rsi + 0x202, 4), *b"HdrS");
    assert_eq!(memory.read(guest.entry.cr3, 8), 0x1_3003u64.to_le_bytes());
    let gdt = memory.read(guest.entry.gdtr.base, 32);
    assert_eq!(gdt[16..24], 0x00AF_9B00_0000_FFFFu64.to_le_bytes());
    let xsdt = u64::from_le_bytes(memory.read(0xE_0018, 8).try_into().unwrap());
    assert!(
        guest
            .layout
            .acpi
            .contains(&GpaRange::with_length(xsdt, 60).unwrap())
    );
    assert_eq!(memory.read(xsdt, 4), *b"XSDT");
}

#[test]
fn a_bare_kernel_is_enough() {
    let mut host = host();
    host.set_size(Item::InitrdSize, 0);
    host.set_size(Item::CmdlineSize, 0);
    let (guest, memory) = launch(&host);
    let guest = guest.unwrap();
    assert_eq!((guest.image.initrd, guest.layout.initrd), (None, None));
    assert_eq!(guest.image.command_line.digests, Digests::of(b""));
    assert_eq!(memory.read(0x2_0000, 1), [0]);
}

#[test]
fn bad_input_is_named_in_one_line() {
    type Change = fn(&mut Host);
    let cases: [(Change, &str); 12] = [
        (
            |h| {
                h.set_size(Item::SetupSize, 0);
                h.set_size(Item::KernelSize, 0)
            },
            "gives no kernel",
        ),
        (
            |h| h.set_size(Item::SetupSize, 0),
            "the kernel is no bzImage",
        ),
        (
            |h| h.set(Item::SetupData, b"\x7fELF"),
            "the kernel is no bzImage",
        ),
        (
            |h| h.set_size(Item::SetupSize, u32::MAX),
            "4294967295 bytes of kernel setup code",
        ),
        (
            |h| h.set_size(Item::SetupSize, 0x5000 - 512),
            "19968 bytes of kernel setup code, but",
        ),
        (
            |h| h.set_size(Item::KernelSize, 0x7FF0),
            "the kernel is cut off: 32752 bytes",
        ),
        (
            |h| h.set_size(Item::KernelSize, u32::MAX),
            "too little memory for the kernel: no free 4095 MiB",
        ),
        (
            |h| h.set_size(Item::InitrdSize, u32::MAX),
            "the initrd is too large: 4294967295 bytes",
        ),
        (
            |h| h.set_size(Item::CmdlineSize, 2049),
            "the command line is too long: 2048 bytes, but the kernel takes 2047",
        ),
        (
            |h| h.set_size(Item::CmdlineSize, u32::MAX),
            "the command line is too long",
        ),
        (
            |h| h.set_size(Item::CmdlineSize, 5),
            "does not end where its size says",
        ),
        (
            |h| h.set_size(Item::CmdlineSize, 100),
            "does not end where its size says",
        ),
    ];
    for (change, said) in cases {
        let mut host = host();
        change(&mut host);
        let error = launch(&host).0.unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains('\n'), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever sizes and setup code the host gives, the launch ends, and nothing outside L2 is
    /// written.
    #[test]
    fn no_host_makes_a_launch_panic(
        sizes in proptest::array::uniform4(prop_oneof![0u32..0x1_0000, any::<u32>()]),
        at in 0x1F1usize..0x268, value: u8, keep in 0usize..5,
    ) {
        let mut host = host();
        let items = [Item::SetupSize, Item::KernelSize, Item::InitrdSize, Item::CmdlineSize];
        for (index, (item, size)) in items.into_iter().zip(sizes).enumerate() {
            if index != keep {
                // A file of gigabytes would only make the test slow.
                host.set_size(item, if size < 1 << 24 { size } else { size | 0xF000_0000 });
            }
        }
        let mut setup = test_setup(CODE as u32);
        setup[at] = value;
        host.set(Item::SetupData, &setup);
        if keep == 4 {
            host.set_size(Item::SetupSize, setup.len() as u32);
            host.set_size(Item::KernelSize, CODE as u32);
            host.set_size(Item::InitrdSize, 0);
        }
        let (result, _memory) = launch(&host);
        prop_assert!(!matches!(result, Err(LoadError::Memory(_))));
    }
}
