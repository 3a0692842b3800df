use super::*;

const MACHINE: Described = Described {
    tsc_ratio: 40,
    xfam: 0xE7,
    processors: 1,
};

/// A processor with every feature there is.
fn everything(leaf: u32, subleaf: u32) -> CpuidResult {
    let all = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    match (leaf, subleaf) {
        (0, _) => CpuidResult {
            eax: 0x21,
            ebx: 1,
            ecx: 2,
            edx: 3,
        },
        (4, 0..=2) => CpuidResult {
            eax: 0xFFFF_FC21,
            ..all
        },
        (4, _) => CpuidResult::default(),
        (7, 0) => CpuidResult { eax: 5, ..all },
        (0xD, 0) => CpuidResult {
            eax: 0x602E7,
            ebx: 0,
            ecx: 0,
            edx: 0,
        },
        (0xD, 1) => all,
        (0xD, 2) => CpuidResult {
            eax: 256,
            ebx: 576,
            ecx: 0,
            edx: 0,
        },
        (0xD, 5) => CpuidResult {
            eax: 64,
            ebx: 1088,
            ecx: 0,
            edx: 0,
        },
        (0xD, 6) => CpuidResult {
            eax: 512,
            ebx: 1152,
            ecx: 0,
            edx: 0,
        },
        (0xD, 7) => CpuidResult {
            eax: 1024,
            ebx: 1664,
            ecx: 0,
            edx: 0,
        },
        (0x21, 0) => CpuidResult {
            eax: 0,
            ebx: 1,
            ecx: 2,
            edx: 3,
        },
        (0x8000_0008, _) => CpuidResult { eax: 0x3934, ..all },
        _ => all,
    }
}

fn at(table: &CpuidTable, leaf: u32, subleaf: u32) -> CpuidResult {
    at_processor(table, leaf, subleaf, 0)
}

fn at_processor(table: &CpuidTable, leaf: u32, subleaf: u32, id: u8) -> CpuidResult {
    table.get(leaf, subleaf, || Dynamic {
        os_xsave: true,
        xcr0: 7,
        id,
    })
}

#[test]
fn l2_does_not_take_itself_for_a_td() {
    let table = CpuidTable::new(everything, &MACHINE);
    assert_eq!(at(&table, 0x21, 0), CpuidResult::default());
    assert_eq!(at(&table, 0, 0).eax, 0x16);
}

#[test]
fn what_is_not_emulated_is_not_offered() {
    let table = CpuidTable::new(everything, &MACHINE);
    let one = at(&table, 1, 0);
    for bit in [2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 18] {
        assert_eq!(one.ecx >> bit & 1, 0, "CPUID.1:ECX[{bit}]");
    }
    for bit in [
        0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    ] {
        assert_eq!(one.ecx >> bit & 1, 1, "CPUID.1:ECX[{bit}]");
    }
    assert_eq!(one.ebx >> 16, 1, "one processor, APIC id 0");
    let seven = at(&table, 7, 0);
    for bit in [1, 2, 4, 11, 12, 14, 15, 25] {
        assert_eq!(seven.ebx >> bit & 1, 0, "CPUID.7:EBX[{bit}]");
    }
    for bit in [3, 4, 5, 7, 13, 16, 23, 24, 29, 30, 31] {
        assert_eq!(seven.ecx >> bit & 1, 0, "CPUID.7:ECX[{bit}]");
    }
    for bit in [5, 11, 13, 15, 18, 19, 20, 22, 24, 25, 30] {
        assert_eq!(seven.edx >> bit & 1, 0, "CPUID.7:EDX[{bit}]");
    }
    for leaf in [5, 0xA, 0x12, 0x14, 0x19, 0x1A, 0x1C, 0x1D, 0x1E, 0x1F, 0x20] {
        assert_eq!(at(&table, leaf, 0), CpuidResult::default(), "{leaf:#x}");
    }
}

#[test]
fn vector_features_follow_xfam() {
    let table = CpuidTable::new(everything, &Described { xfam: 3, ..MACHINE });
    assert_eq!(table.xcr0(), 3);
    assert_eq!(at(&table, 1, 0).ecx & leaf1_ecx::NEED_AVX, 0);
    assert_eq!(at(&table, 7, 0).ebx & (LEAF7_EBX_AVX | LEAF7_EBX_AVX512), 0);
}

#[test]
fn xsave_leaves_follow_l2s_xcr0() {
    let table = CpuidTable::new(everything, &MACHINE);
    let of = |subleaf, xcr0| {
        table.get(0xD, subleaf, || Dynamic {
            os_xsave: true,
            xcr0,
            id: 0,
        })
    };
    assert_eq!(
        (of(0, 3).eax, of(0, 3).ebx, of(0, 3).ecx),
        (0xE7, 576, 2688)
    );
    assert_eq!((of(0, 7).ebx, of(0, 0xE7).ebx), (832, 2688));
    assert_eq!((of(1, 7).eax, of(1, 0xE7).ebx), (0xF, 2432));
    assert_eq!((of(1, 7).ecx, of(1, 7).edx), (0, 0), "no supervisor state");
    assert_eq!(of(9, 7), CpuidResult::default());
    assert_eq!(of(2, 7).eax, 256);
}

#[test]
fn os_xsave_shows_cr4() {
    let table = CpuidTable::new(everything, &MACHINE);
    let dynamic = |os_xsave| Dynamic {
        os_xsave,
        xcr0: 1,
        id: 0,
    };
    let ecx = |os_xsave| table.get(1, 0, || dynamic(os_xsave)).ecx;
    assert_eq!((ecx(true) >> 27 & 1, ecx(false) >> 27 & 1), (1, 0));
}

#[test]
fn clocks_are_known_without_calibration() {
    let table = CpuidTable::new(everything, &MACHINE);
    let clock = at(&table, 0x15, 0);
    assert_eq!((clock.eax, clock.ebx, clock.ecx), (1, 40, 25_000_000));
    assert_eq!(at(&table, 0x16, 0).eax, 1000);
    assert_eq!(at(&table, 0x8000_0007, 0).edx, 1 << 8);
}

#[test]
fn the_hypervisor_is_kvm_without_features() {
    let table = CpuidTable::new(everything, &MACHINE);
    let leaf = at(&table, 0x4000_0000, 0);
    let mut signature = [0; 12];
    for (bytes, register) in signature.chunks_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    assert_eq!(&signature, b"KVMKVMKVM\0\0\0");
    assert_eq!(at(&table, 0x4000_0001, 0), CpuidResult::default());
}

#[test]
fn the_topology_is_one_processor() {
    let table = CpuidTable::new(everything, &MACHINE);
    for (subleaf, ebx, ecx) in [(0, 1, 0x100), (1, 1, 0x201), (2, 0, 2), (3, 0, 3)] {
        let level = at(&table, 0xB, subleaf);
        assert_eq!(
            (level.eax, level.ebx, level.ecx, level.edx),
            (0, ebx, ecx, 0)
        );
    }
    assert_eq!(at(&table, 4, 0).eax & !0x3FFF, 0);
    assert_eq!(at(&table, 4, 3), CpuidResult::default());
}

/// `l2_exit::run_ahead` executes L2's branches, loads and stores without shadow stacks, protection keys and a fifth level.
#[test]
fn l2_cannot_switch_on_what_running_ahead_leaves_out() {
    use x86_defs::cr4;
    let table = CpuidTable::new(everything, &MACHINE);
    let left_out = cr4::CET | cr4::PKS | cr4::LA57;
    assert_eq!(table.cr4() & left_out, 0);
    // Nor anything of a later processor's.
    let known = cr4::PKS << 1;
    assert_eq!(table.cr4() & !(known - 1), 0);
}

#[test]
fn addresses_are_48_bits_linear() {
    let table = CpuidTable::new(everything, &MACHINE);
    assert_eq!(at(&table, 0x8000_0008, 0).eax, 0x3034);
    assert_eq!(table.physical_address_width(), 52);
    assert_eq!(table.cr4(), 0x37_0FBF);
}

#[test]
fn each_processor_is_a_core_of_one_package_and_knows_its_number() {
    for (processors, shift) in [(2u32, 1), (3, 2), (4, 2), (16, 4)] {
        let table = CpuidTable::new(
            everything,
            &Described {
                processors,
                ..MACHINE
            },
        );
        for id in 0..processors as u8 {
            let one = at_processor(&table, 1, 0, id);
            assert_eq!(
                (one.ebx >> 24, one.ebx >> 16 & 0xFF),
                (id.into(), 1 << shift)
            );
            assert_eq!(one.edx >> 28 & 1, 1, "HTT");
            let level = |subleaf| {
                let level = at_processor(&table, 0xB, subleaf, id);
                (level.eax, level.ebx, level.ecx, level.edx)
            };
            assert_eq!(level(0), (0, 1, 0x100, id.into()));
            assert_eq!(level(1), (shift, processors, 0x201, id.into()));
            assert_eq!(level(2), (0, 0, 2, id.into()));
            let cache = at_processor(&table, 4, 0, id);
            assert_eq!(cache.eax >> 26, (1 << shift) - 1, "cores");
        }
    }
}
