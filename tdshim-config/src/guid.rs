//! GUIDs in the byte order of UEFI (the first three fields little-endian).

/// The 16 bytes of a GUID as they stand in memory.
pub type Guid = [u8; 16];

/// A GUID from its written form's fields, `data4` being its last eight bytes as written.
pub const fn guid(data1: u32, data2: u16, data3: u16, data4: [u8; 8]) -> Guid {
    let [a0, a1, a2, a3] = data1.to_le_bytes();
    let [b0, b1] = data2.to_le_bytes();
    let [c0, c1] = data3.to_le_bytes();
    let [d0, d1, d2, d3, d4, d5, d6, d7] = data4;
    [
        a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7,
    ]
}

/// Marks the TDX metadata descriptor (TDVF Design Guide, "TDX Metadata GUID").
pub const TDX_METADATA: Guid = guid(
    0xE9EAF9F3,
    0x168E,
    0x44D5,
    [0xA8, 0xEB, 0x7F, 0x4D, 0x87, 0x38, 0xF6, 0xAE],
);

/// A GUID-extension HOB that holds one ACPI table (td-shim specification, "ACPI GUID HOB").
pub const HOB_ACPI_TABLE: Guid = guid(
    0x6a0c5870,
    0xd4ed,
    0x44f4,
    [0xa1, 0x35, 0xdd, 0x23, 0x8b, 0x6f, 0x0c, 0x8d],
);

/// A GUID-extension HOB that holds the E820 table (td-shim specification, "E820 GUID HOB").
pub const HOB_E820: Guid = guid(
    0x8f8072ea,
    0x3486,
    0x4b47,
    [0x86, 0xa7, 0x23, 0x53, 0xb8, 0x8a, 0x87, 0x73],
);

/// The file system of a firmware volume (UEFI PI, EFI_FIRMWARE_FILE_SYSTEM2_GUID).
pub const FIRMWARE_FILE_SYSTEM: Guid = guid(
    0x8c8ce578,
    0x8a3d,
    0x4f1c,
    [0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3],
);

/// The name of the firmware volume that carries the payload.
pub const PAYLOAD_VOLUME: Guid = guid(
    0x7cb8bdc9,
    0xf8eb,
    0x4f34,
    [0xaa, 0xea, 0x3e, 0xe4, 0xaf, 0x65, 0x16, 0xa1],
);

/// The name of the payload's file in its volume.
pub const PAYLOAD_FILE: Guid = guid(
    0xa8f75d7c,
    0x8b85,
    0x49b6,
    [0x91, 0x3e, 0xaf, 0x99, 0x61, 0x55, 0x73, 0x08],
);

/// The entry of an image's GUIDed table that holds the distance of the metadata descriptor from the
/// image's end (OVMF, `ResetVector`).
pub const TDX_METADATA_OFFSET: Guid = guid(
    0xe47a6535,
    0x984a,
    0x4798,
    [0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2],
);

/// Ends the GUIDed table (OVMF, `ResetVector`).
pub const GUIDED_TABLE_FOOTER: Guid = guid(
    0x96b582de,
    0x1fb2,
    0x45f7,
    [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d],
);
