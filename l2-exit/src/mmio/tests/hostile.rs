//! Nothing that L2 can put into registers, memory or page tables panics or runs on.

use proptest::prelude::*;
use x86_defs::{cr0, cr4};

use super::*;

/// Bytes that begin like instructions which reach memory, among them prefixes.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(&[0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x64, 0x2E, 0x48, 0x4C][..]);
    let opcode = prop::sample::select(
        &[
            0x00, 0x03, 0x0B, 0x21, 0x29, 0x33, 0x38, 0x63, 0x80, 0x81, 0x83, 0x84, 0x86, 0x88,
            0x89, 0x8A, 0x8B, 0xA0, 0xA1, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD,
            0xAE, 0xAF, 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF, 0x0F,
        ][..],
    );
    (
        prop::collection::vec(prefix, 0..4),
        opcode,
        any::<[u8; 11]>(),
        0..4_u8,
    )
        .prop_map(|(mut bytes, opcode, mut rest, form)| {
            // Most often a memory operand at a register, without a displacement.
            if form != 0 {
                rest[0] &= 0x3F;
            }
            bytes.push(opcode);
            bytes.extend(rest);
            bytes
        })
}

/// Values of registers, most of them addresses of the device at `device` or of memory.
fn register(device: u64, ram: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0..0x1000_u64).prop_map(move |offset| device + offset),
        2 => (0..DEVICE_SIZE).prop_map(move |offset| device + offset),
        2 => (0..0x2000_u64).prop_map(move |offset| ram + offset),
        2 => 0..32_u64,
        1 => any::<u64>(),
    ]
}

/// A mode with registers that suit it.
fn vcpu() -> impl Strategy<Value = (u8, Vec<u64>)> {
    prop_oneof![
        2 => (Just(0), prop::collection::vec(register(MMIO, RAM), 16)),
        1 => (Just(1), prop::collection::vec(register(DEVICE, RAM_GPA), 16)),
        1 => (Just(2), prop::collection::vec(register(0, 0x8000), 16)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_code_and_registers_end(
        code in prop_oneof![9 => code(), 1 => prop::collection::vec(any::<u8>(), 15)],
        (mode, gprs) in vcpu(),
        at in prop::sample::select(&[0_u64, 0xFF8, 0xFFF, 0x1FFA][..]),
        rflags in prop_oneof![Just(2_u64), any::<u64>()],
        cpl in prop_oneof![3 => Just(0), 1 => 0..4_u8],
        linear in prop::option::weighted(0.2, register(MMIO, RAM)),
        bits in any::<[bool; 3]>(),
        real_base in any::<bool>(),
    ) {
        let mut machine = match mode {
            0 => Machine::long(),
            1 => Machine::flat(TestVcpu::protected()),
            _ => {
                let mut vcpu = TestVcpu::real();
                for segment in &mut vcpu.segments {
                    segment.base = if real_base { DEVICE } else { RAM_GPA };
                }
                vcpu.segments[SegmentRegister::Ds as usize].base = DEVICE;
                vcpu.segments[SegmentRegister::Cs as usize].base = CODE_GPA;
                let mut machine = Machine::flat(vcpu);
                machine.vcpu.rip = 0;
                machine
            }
        };
        machine.vcpu.rip += at;
        machine.vcpu.rflags = rflags;
        machine.vcpu.gprs.copy_from_slice(&gprs);
        machine.cpl = cpl;
        machine.load(CODE_GPA + at, &code);
        let violation = EptViolation {
            gpa: DEVICE,
            linear,
            read: bits[0],
            write: bits[1],
            fetch: false,
            final_access: linear.is_some(),
            nmi_unblocked: false,
            pending: bits[2],
        };
        for _ in 0..2 {
            let before = machine.vcpu.clone();
            let device = machine.device.seen.len();
            match machine.emulate(violation) {
                Ok(Outcome::Completed) => prop_assert_ne!(machine.vcpu.rip, before.rip),
                Ok(Outcome::Interrupted) => prop_assert_eq!(machine.vcpu.rip, before.rip),
                Ok(Outcome::Fault(event)) => {
                    prop_assert_eq!(machine.vcpu.rip, before.rip);
                    prop_assert!(matches!(event.vector, 12 | 13 | 14 | 17));
                }
                Err(_) => prop_assert_eq!(machine.vcpu.rip, before.rip),
            }
            prop_assert!(machine.device.seen.len() - device <= 8 * 1024);
        }
    }

    #[test]
    fn any_page_tables_end(
        tables in prop::collection::vec((0..0x800_u64, any::<u64>(), 0..8_u64), 48),
        rip in any::<u64>(),
        gprs in any::<[u64; 16]>(),
        paging in any::<[bool; 3]>(),
        pdptes in any::<[u64; 4]>(),
        rights in any::<u32>(),
        cpl in 0..4_u8,
    ) {
        let memory = TestMemory::default();
        for (slot, high, page) in tables {
            memory.poke_u64(0x1000 + slot * 8, high & 0x8000_0000_0000_0FFF | page << 12 | 1);
        }
        let mut vcpu = TestVcpu::long();
        vcpu.cr0 &= !(u64::from(paging[0]) * cr0::PG);
        vcpu.cr4 &= !(u64::from(paging[1]) * cr4::PAE);
        vcpu.cr4 |= u64::from(paging[2]) * cr4::LA57;
        vcpu.pdptes = pdptes;
        vcpu.rip = rip;
        vcpu.gprs = gprs;
        let segment = &mut vcpu.segments[SegmentRegister::Cs as usize];
        segment.access_rights = crate::vcpu::SegmentAccessRights::from_bits(rights);
        let mut machine = Machine {
            vcpu,
            memory,
            device: TestDevice::new(),
            cache: DecodeCache::new(),
            cpl,
        };
        let violation = EptViolation {
            linear: None,
            final_access: false,
            ..machine.violation(DEVICE, false)
        };
        let _ = machine.emulate(violation);
    }
}
