//! The SGX Extensions of a PCK certificate (Intel SGX PCK Certificate and Certificate Revocation List
//! Profile Specification, section 1.3.5).

use std::vec::Vec;

use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode, EncodeValue, Sequence, Tag, Tagged};
use x509_cert::ext::Extension;

use super::platform;

/// `id-ce-sGXExtensions`; every other identifier here begins with it.
const SGX_EXTENSIONS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");

mod arc {
    pub(super) const PPID: u32 = 1;
    pub(super) const TCB: u32 = 2;
    pub(super) const PCEID: u32 = 3;
    pub(super) const FMSPC: u32 = 4;
    pub(super) const SGX_TYPE: u32 = 5;
    pub(super) const PLATFORM_INSTANCE_ID: u32 = 6;
    pub(super) const CONFIGURATION: u32 = 7;
    /// Under `TCB`: the components are 1 to 16.
    pub(super) const PCESVN: u32 = 17;
    pub(super) const CPUSVN: u32 = 18;
    /// Under `CONFIGURATION`.
    pub(super) const DYNAMIC_PLATFORM: u32 = 1;
    pub(super) const CACHED_KEYS: u32 = 2;
    pub(super) const SMT_ENABLED: u32 = 3;
}

/// SGX type "Scalable": the platforms that have TDX.
const SCALABLE: u8 = 1;

/// `SEQUENCE { sGXExtensionID OBJECT IDENTIFIER, value ANY }`.
#[derive(Sequence)]
struct Field {
    id: ObjectIdentifier,
    value: Any,
}

impl Field {
    fn new<T: EncodeValue + Tagged>(path: &[u32], value: &T) -> der::Result<Field> {
        let mut id = SGX_EXTENSIONS;
        for &arc in path {
            id = id
                .push_arc(arc)
                .map_err(|_| Tag::ObjectIdentifier.value_error())?;
        }
        let value = Any::encode_from(value)?;
        Ok(Field { id, value })
    }
}

/// The extension for [`platform`].
pub(super) fn of_platform() -> der::Result<Extension> {
    let octets = |bytes: &[u8]| OctetString::new(bytes);
    let mut tcb = Vec::new();
    for (component, svn) in (1..).zip(platform::CPUSVN) {
        tcb.push(Field::new(&[arc::TCB, component], &svn)?);
    }
    tcb.push(Field::new(&[arc::TCB, arc::PCESVN], &platform::PCESVN)?);
    tcb.push(Field::new(
        &[arc::TCB, arc::CPUSVN],
        &octets(&platform::CPUSVN)?,
    )?);
    let mut configuration = Vec::new();
    for flag in [arc::DYNAMIC_PLATFORM, arc::CACHED_KEYS, arc::SMT_ENABLED] {
        configuration.push(Field::new(&[arc::CONFIGURATION, flag], &false)?);
    }
    let fields = Vec::from([
        Field::new(&[arc::PPID], &octets(&platform::PPID)?)?,
        Field::new(&[arc::TCB], &tcb)?,
        Field::new(&[arc::PCEID], &octets(&platform::PCEID)?)?,
        Field::new(&[arc::FMSPC], &octets(&platform::FMSPC)?)?,
        Field {
            id: SGX_EXTENSIONS
                .push_arc(arc::SGX_TYPE)
                .map_err(|_| Tag::ObjectIdentifier.value_error())?,
            value: Any::new(Tag::Enumerated, [SCALABLE])?,
        },
        Field::new(&[arc::PLATFORM_INSTANCE_ID], &octets(&platform::INSTANCE)?)?,
        Field::new(&[arc::CONFIGURATION], &configuration)?,
    ]);
    Ok(Extension {
        extn_id: SGX_EXTENSIONS,
        critical: false,
        extn_value: OctetString::new(fields.to_der()?)?,
    })
}
