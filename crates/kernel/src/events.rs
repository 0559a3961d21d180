//! The ring buffer that the programs tell their decisions through.

use abi::Event;
use aya::maps::{Map, MapData, RingBuf};

use crate::{Error, Pins};

/// The reading end. There should be one reader: each event is read once.
pub struct Events(RingBuf<MapData>);

impl Events {
    /// Opens the pinned ring buffer.
    ///
    /// # Errors
    /// It is not there, or no ring buffer.
    pub fn open(pins: &Pins) -> Result<Self, Error> {
        let missing = || Error::NotInstalled(pins.directory().join("maps/events"));
        let path = pins.map_named("events").ok_or_else(missing)?;
        let ring = MapData::from_pin(&path)
            .and_then(Map::from_map_data)
            .and_then(RingBuf::try_from)
            .map_err(|error| Error::Load(error.into()))?;
        Ok(Self(ring))
    }

    /// The next event, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        let item = self.0.next()?;
        // Records are written whole by our own programs; one of another size would be another layout's.
        bytemuck::try_pod_read_unaligned(&item).ok()
    }
}
