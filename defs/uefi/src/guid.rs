//! GUIDs in the byte order of UEFI (the first three fields little-endian).

/// The 16 bytes of a GUID as they stand in memory.
pub type Guid = [u8; 16];

/// A GUID from its digits as written; its first three groups are little-endian in memory.
pub const fn guid(digits: u128) -> Guid {
    let [
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        c0,
        c1,
        d0,
        d1,
        d2,
        d3,
        d4,
        d5,
        d6,
        d7,
    ] = digits.to_be_bytes();
    [
        a3, a2, a1, a0, b1, b0, c1, c0, d0, d1, d2, d3, d4, d5, d6, d7,
    ]
}

/// Marks the TDX metadata descriptor (TDVF Design Guide, "TDX Metadata GUID").
pub const TDX_METADATA: Guid = guid(0xe9eaf9f3_168e_44d5_a8eb_7f4d8738f6ae);

/// A GUID-extension HOB that holds one ACPI table (td-shim specification, "ACPI GUID HOB").
pub const HOB_ACPI_TABLE: Guid = guid(0x6a0c5870_d4ed_44f4_a135_dd238b6f0c8d);

/// A GUID-extension HOB that says what the payload is and where it begins (td-shim specification, "Payload GUID HOB").
pub const HOB_PAYLOAD_INFO: Guid = guid(0xb96fa412_461f_4be3_8c0d_ad805a497ac0);

/// A GUID-extension HOB that holds the E820 table (td-shim specification, "E820 GUID HOB").
pub const HOB_E820: Guid = guid(0x8f8072ea_3486_4b47_86a7_2353b88a8773);

/// The file system of a firmware volume (UEFI PI, EFI_FIRMWARE_FILE_SYSTEM2_GUID).
pub const FIRMWARE_FILE_SYSTEM: Guid = guid(0x8c8ce578_8a3d_4f1c_9935_896185c32dd3);

/// The name of the firmware volume that carries the payload.
pub const PAYLOAD_VOLUME: Guid = guid(0x7cb8bdc9_f8eb_4f34_aaea_3ee4af6516a1);

/// The name of the payload's file in its volume.
pub const PAYLOAD_FILE: Guid = guid(0xa8f75d7c_8b85_49b6_913e_af9961557308);

/// The entry of an image's GUIDed table that holds the distance of the metadata descriptor from the
/// image's end (OVMF, `ResetVector`).
pub const TDX_METADATA_OFFSET: Guid = guid(0xe47a6535_984a_4798_865e_4685a7bf8ec2);

/// Ends the GUIDed table (OVMF, `ResetVector`).
pub const GUIDED_TABLE_FOOTER: Guid = guid(0x96b582de_1fb2_45f7_baea_a366c55a082d);

/// gTcgEvent2EntryHobGuid (EDK II): a TCG_PCR_EVENT2 follows.
pub const TCG_EVENT2_ENTRY: Guid = guid(0xd26c221e_2430_4c8a_9170_3fcb4500413f);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_as_in_memory() {
        let expected = [
            0xf3, 0xf9, 0xea, 0xe9, 0x8e, 0x16, 0xd5, 0x44, 0xa8, 0xeb, 0x7f, 0x4d, 0x87, 0x38,
            0xf6, 0xae,
        ];
        assert_eq!(TDX_METADATA, expected);
    }
}
