//! What a Map-Register and a Map-Notify have in common behind the bits of their first words: the authentication data,
//! the records and, where they are announced, the ids (RFC 6830 6.1.6 and 6.1.7; RFC 9301 5.6 and 5.7).

use super::cursor::Writer;
use super::message_reader;
use super::record::{Authentication, MapRecord, RecordKind, XtrSiteId};
use crate::error::DecodeError;

/// Octets before the authentication header, which reads and writes itself.
const BEFORE_AUTH: usize = 12;

/// Octets of the fixed part, the authentication header with it.
pub(super) const FIXED: usize = BEFORE_AUTH + 4;

/// The parts that are read.
pub(super) type Parts = (Authentication, Vec<MapRecord>, Option<XtrSiteId>);

/// Reads the rest of a message whose fixed part was checked. `has_ids` is asked with the octets that follow the last record.
pub(super) fn read(
    name: &'static str,
    buffer: &[u8],
    records: u8,
    has_ids: impl FnOnce(usize) -> bool,
) -> Result<Parts, DecodeError> {
    let mut reader = message_reader(name, buffer, BEFORE_AUTH)?;
    let auth = Authentication::read(&mut reader)?;
    let records = MapRecord::read_all(&mut reader, records, RecordKind::Mapping)?;
    let ids = match has_ids(reader.remaining()) {
        true => Some(XtrSiteId::read(&mut reader)?),
        false => None,
    };
    reader.finish("the last record")?;
    Ok((auth, records, ids))
}

/// Octets of the whole message.
pub(super) fn length(
    auth: &Authentication,
    records: &[MapRecord],
    ids: Option<&XtrSiteId>,
) -> usize {
    let records: usize = records.iter().map(MapRecord::buffer_len).sum();
    BEFORE_AUTH + auth.buffer_len() + records + ids.map_or(0, |_| XtrSiteId::LEN)
}

/// Writes a message: its fixed part, of which the authentication header is replaced, and the rest.
///
/// # Panics
/// When the buffer has another length than the message.
pub(super) fn write(
    buffer: &mut [u8],
    fixed: &[u8; FIXED],
    auth: &Authentication,
    records: &[MapRecord],
    ids: Option<&XtrSiteId>,
) {
    let mut writer = Writer::new(buffer);
    writer.put(&fixed[..BEFORE_AUTH]);
    auth.write(&mut writer);
    records.iter().for_each(|record| record.write(&mut writer));
    if let Some(ids) = ids {
        ids.write(&mut writer);
    }
    writer.finish();
}
