//! Header, trailer and metadata maps.

use wasmtime::Linker;

use super::{About, functions};
use crate::abi::{MapType, Status};
use crate::headers::HeaderMap;
use crate::memory::{Guest, HostResult};
use crate::pairs;
use crate::state::{Process, VmState};

pub(super) fn add_to(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    functions! { linker;
        "proxy_get_header_map_value"(map: u32, name: u32, name_len: u32, value_at: u32, len_at: u32)
            about About::Text(name, name_len) => get_value;
        "proxy_add_header_map_value"(map: u32, name: u32, name_len: u32, value: u32, value_len: u32)
            about About::Text(name, name_len) => add_value;
        "proxy_replace_header_map_value"(map: u32, name: u32, name_len: u32, value: u32, value_len: u32)
            about About::Text(name, name_len) => replace_value;
        "proxy_remove_header_map_value"(map: u32, name: u32, name_len: u32)
            about About::Text(name, name_len) => remove_value;
        "proxy_get_header_map_pairs"(map: u32, pairs_at: u32, len_at: u32) about About::Map(map) => get_pairs;
        "proxy_set_header_map_pairs"(map: u32, pairs: u32, len: u32) about About::Map(map) => set_pairs;
        "proxy_get_header_map_size"(map: u32, size_at: u32) about About::Map(map) => get_size;
    }
    Ok(())
}

fn map_type(number: u32) -> HostResult<MapType> {
    Ok(MapType::from_number(number).ok_or(Status::BadArgument)?)
}

fn get_value(guest: &mut Guest<'_, '_>, map: u32, name: u32, name_len: u32, value_at: u32, len_at: u32) -> HostResult {
    let (map, name) = (map_type(map)?, guest.read(name, name_len)?);
    let value = match readable(guest, map) {
        Some(headers) => headers.get(&name).map(<[u8]>::to_vec).ok_or(Status::NotFound)?,
        None if is_logging(guest) => return Err(Status::NotFound.into()),
        None => return Err(Status::BadArgument.into()),
    };
    guest.give(&value, value_at, len_at)
}

/// A map that does not exist has no pairs; that is not an error, as in Envoy.
fn get_pairs(guest: &mut Guest<'_, '_>, map: u32, pairs_at: u32, len_at: u32) -> HostResult {
    let headers = readable(guest, map_type(map)?).unwrap_or_default();
    if headers.is_empty() {
        return guest.give(&[], pairs_at, len_at);
    }
    guest.give(&pairs::encode(headers.iter()), pairs_at, len_at)
}

fn get_size(guest: &mut Guest<'_, '_>, map: u32, size_at: u32) -> HostResult {
    let size = change(guest, map_type(map)?, |headers| headers.byte_size())?;
    guest.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))
}

fn add_value(guest: &mut Guest<'_, '_>, map: u32, name: u32, name_len: u32, value: u32, value_len: u32) -> HostResult {
    let (name, value) = (guest.read(name, name_len)?, guest.read(value, value_len)?);
    change(guest, map_type(map)?, |headers| headers.add(name, value))
}

fn replace_value(
    guest: &mut Guest<'_, '_>,
    map: u32,
    name: u32,
    name_len: u32,
    value: u32,
    value_len: u32,
) -> HostResult {
    let (name, value) = (guest.read(name, name_len)?, guest.read(value, value_len)?);
    change(guest, map_type(map)?, |headers| headers.replace(name, value))
}

fn remove_value(guest: &mut Guest<'_, '_>, map: u32, name: u32, name_len: u32) -> HostResult {
    let name = guest.read(name, name_len)?;
    change(guest, map_type(map)?, |headers| headers.remove(name))
}

fn set_pairs(guest: &mut Guest<'_, '_>, map: u32, pairs: u32, len: u32) -> HostResult {
    let lines = pairs::decode(&guest.read(pairs, len)?);
    change(guest, map_type(map)?, |headers| *headers = HeaderMap::from_lines(lines))
}

fn is_logging(guest: &Guest<'_, '_>) -> bool {
    let Some((stream, filter)) = guest.state().stream() else {
        return false;
    };
    guest.process(|process| {
        let stream = process.streams.get(&stream);
        stream.and_then(|s| s.filters.get(filter)).is_some_and(|context| context.logging)
    })
}

fn readable(guest: &Guest<'_, '_>, map: MapType) -> Option<HeaderMap> {
    let delivery = &guest.state().delivery;
    match map {
        MapType::HttpCallResponseHeaders => delivery.headers.clone(),
        MapType::HttpCallResponseTrailers => delivery.trailers.clone(),
        MapType::GrpcInitialMetadata => delivery.grpc_initial.clone(),
        MapType::GrpcTrailingMetadata => delivery.grpc_trailing.clone(),
        MapType::RequestHeaders | MapType::RequestTrailers | MapType::ResponseHeaders | MapType::ResponseTrailers => {
            let (stream, filter) = guest.state().stream()?;
            guest.process(|process| process.streams.get(&stream)?.readable(filter, map).cloned())
        }
    }
}

/// Works on a map that is open for change. `BadArgument` when it is not.
fn change<T>(guest: &Guest<'_, '_>, map: MapType, work: impl FnOnce(&mut HeaderMap) -> T) -> HostResult<T> {
    let (stream, filter) = guest.state().stream().ok_or(Status::BadArgument)?;
    guest.process(|process| Ok(work(writable(process, stream, filter, map).ok_or(Status::BadArgument)?)))
}

fn writable(process: &mut Process, stream: u64, filter: usize, map: MapType) -> Option<&mut HeaderMap> {
    process.streams.get_mut(&stream)?.writable(filter, map)
}
