//! The state of one transaction in a trip through several applications.

use alloc::borrow::Cow;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::TransactionId;
use crate::record::{Attribute, Name, Value, keys};

use super::{
    Answer, CallerTransaction, CrossProcessId, CrossProcessIdError, ObfuscationError, PathHash, Settings,
    TransactionError, app_data, transaction,
};

/// At most this many distinct path hashes that were sent are remembered; agents agree on the number.
pub const ALTERNATE_PATH_HASHES_MAX: usize = 10;

/// Why a caller's headers, or the second of them, are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The id's obfuscation could not be taken off.
    IdObfuscation(ObfuscationError),
    /// The id is no cross process id.
    Id(CrossProcessIdError),
    /// The id's account is not trusted.
    UntrustedAccount,
    /// The id is believed, the transaction header is not.
    Transaction(TransactionError),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::IdObfuscation(why) => why.fmt(formatter),
            Self::Id(why) => why.fmt(formatter),
            Self::UntrustedAccount => formatter.write_str("the caller's account is not trusted"),
            Self::Transaction(why) => why.fmt(formatter),
        }
    }
}

/// What came from the caller. Nothing refused and no id: no CAT header came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The caller, of a trusted account.
    pub client_cross_process_id: Option<CrossProcessId>,
    /// The caller's transaction; only together with the id.
    pub caller: Option<CallerTransaction>,
    /// What was not believed, and why.
    pub refused: Option<Refusal>,
}

impl Accepted {
    /// Reads the two request headers, of each the first line. An id that is missing or not believed hides the
    /// transaction header.
    fn read(id: Option<&[u8]>, transaction: Option<&[u8]>, settings: &Settings) -> Self {
        let Some(id) = id else { return Self::default() };
        let id = match client(id, settings) {
            Ok(id) => Some(id),
            Err(why) => return Self { refused: Some(why), ..Self::default() },
        };
        match transaction.map(|value| CallerTransaction::read(value, settings.encoding_key())).transpose() {
            Ok(caller) => Self { client_cross_process_id: id, caller, refused: None },
            Err(why) => Self { client_cross_process_id: id, caller: None, refused: Some(Refusal::Transaction(why)) },
        }
    }

    /// Whether the caller made the transaction part of a trip. Agents agree that an array with a wrong type does
    /// not; a missing array does (the PHP and Java agents keep the id then).
    fn is_trip(&self) -> bool {
        let is_wrong_type = matches!(self.refused, Some(Refusal::Transaction(why)) if why.is_wrong_type());
        self.client_cross_process_id.is_some() && !is_wrong_type
    }
}

/// The caller that an id header names.
fn client(value: &[u8], settings: &Settings) -> Result<CrossProcessId, Refusal> {
    let text = settings.encoding_key().decode_text(value).map_err(Refusal::IdObfuscation)?;
    let id = CrossProcessId::parse(&text).map_err(Refusal::Id)?;
    if settings.trusts(&id) { Ok(id) } else { Err(Refusal::UntrustedAccount) }
}

/// The request headers of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The value of [`super::X_NEWRELIC_ID`].
    pub id: String,
    /// The value of [`super::X_NEWRELIC_TRANSACTION`].
    pub transaction: String,
}

/// One transaction's part in a trip.
///
/// Transaction names may be any bytes; what is not UTF-8 in them counts as replacement characters.
#[derive(Debug)]
pub struct Trip {
    guid: TransactionId,
    accepted: Accepted,
    has_sent: bool,
    /// The first ones sent, distinct and in ascending order, at most [`ALTERNATE_PATH_HASHES_MAX`].
    hashes_sent: Vec<PathHash>,
    /// The name that an answer carried.
    frozen_name: Option<Box<str>>,
}

impl Trip {
    /// Begins a transaction. `id` and `transaction` are the first lines of the caller's request headers; pass
    /// `None` for a caller that is not to be believed. Without an id the trip starts here.
    pub fn accept(guid: TransactionId, id: Option<&[u8]>, transaction: Option<&[u8]>, settings: &Settings) -> Self {
        let accepted = Accepted::read(id, transaction, settings);
        Self { guid, accepted, has_sent: false, hashes_sent: Vec::new(), frozen_name: None }
    }

    /// What came from the caller.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// The transaction name that an answer carried, which is final; `None` before [`Trip::answer`].
    pub fn frozen_name(&self) -> Option<&str> {
        self.frozen_name.as_deref()
    }

    /// The headers of a request to another application, whoever that is: the receiver checks the trust. They
    /// replace those that came in. `transaction_name` is the full name as known now.
    pub fn outbound(&mut self, settings: &Settings, transaction_name: &[u8]) -> Outbound {
        let hash = self.path_hash(settings, transaction_name);
        self.remember(hash);
        self.has_sent = true;
        let guid = self.guid_text();
        Outbound {
            id: settings.obfuscated_id().to_owned(),
            transaction: transaction::build(settings.encoding_key(), &guid, &self.trip_id(), hash),
        }
    }

    /// The value of [`super::X_NEWRELIC_APP_DATA`] for the answer to the caller, and freezes the transaction name.
    /// `None` when the caller is not trusted or sent no id, and from the second time on. Not to be called for a
    /// transaction that is ignored, nor when the response headers are already on their way.
    pub fn answer(&mut self, settings: &Settings, answer: &Answer<'_>) -> Option<String> {
        if self.accepted.client_cross_process_id.is_none() || self.frozen_name.is_some() {
            return None;
        }
        let name = String::from_utf8_lossy(answer.transaction_name);
        let value = app_data::build(settings, self.guid, &name, answer);
        self.frozen_name = Some(name.into());
        Some(value)
    }

    /// Ends the transaction: what is recorded of it. `transaction_name` is the final name; that of an
    /// [answer](Trip::answer) comes before it.
    pub fn finish(self, settings: &Settings, transaction_name: &[u8]) -> Intrinsics {
        let is_used = self.has_sent || self.accepted.is_trip();
        let trip = is_used.then(|| self.trip_intrinsics(settings, transaction_name));
        Intrinsics { trip, client_cross_process_id: self.accepted.client_cross_process_id }
    }

    fn trip_intrinsics(&self, settings: &Settings, transaction_name: &[u8]) -> TripIntrinsics {
        let path_hash = self.path_hash(settings, transaction_name);
        let caller = self.accepted.caller.as_ref();
        TripIntrinsics {
            guid: self.guid_text(),
            trip_id: self.trip_id().into_owned(),
            path_hash: path_hash.to_hex(),
            referring_path_hash: caller.and_then(|caller| caller.path_hash.clone()),
            referring_transaction_guid: caller.map(|caller| caller.guid.clone()),
            alternate_path_hashes: self.alternate_path_hashes(path_hash),
        }
    }

    fn guid_text(&self) -> String {
        self.guid.to_hex().map(char::from).iter().collect()
    }

    /// The caller's trip, or the own guid when the trip starts here.
    fn trip_id(&self) -> Cow<'_, str> {
        match self.accepted.caller.as_ref().and_then(|caller| caller.trip_id.as_deref()) {
            Some(trip_id) => Cow::Borrowed(trip_id),
            None => Cow::Owned(self.guid_text()),
        }
    }

    fn path_hash(&self, settings: &Settings, transaction_name: &[u8]) -> PathHash {
        let referring = self.accepted.caller.as_ref().and_then(|caller| caller.path_hash.as_deref());
        let name = match self.frozen_name() {
            Some(name) => Cow::Borrowed(name),
            None => String::from_utf8_lossy(transaction_name),
        };
        PathHash::new(referring, settings.app_name(), &name)
    }

    fn remember(&mut self, hash: PathHash) {
        if self.hashes_sent.len() < ALTERNATE_PATH_HASHES_MAX
            && let Err(place) = self.hashes_sent.binary_search(&hash)
        {
            self.hashes_sent.insert(place, hash);
        }
    }

    /// The hashes sent except the final one, in ascending order, joined by commas; `None` when there is none.
    fn alternate_path_hashes(&self, path_hash: PathHash) -> Option<String> {
        let others = self.hashes_sent.iter().filter(|hash| **hash != path_hash);
        let texts: Vec<_> = others.map(|hash| hash.to_hex()).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    }
}

/// What a Transaction record holds of CAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intrinsics {
    /// The transaction's part in a trip; `None` when neither the caller nor an own request used CAT.
    pub trip: Option<TripIntrinsics>,
    /// The caller, also when its transaction header was refused.
    pub client_cross_process_id: Option<CrossProcessId>,
}

/// A transaction's part in a trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TripIntrinsics {
    /// `nr.guid`: 16 hex digits.
    pub guid: String,
    /// `nr.tripId`: the guid unless another one came.
    pub trip_id: String,
    /// `nr.pathHash`: of the final transaction name, eight hex digits.
    pub path_hash: String,
    /// `nr.referringPathHash`: as it arrived, valid or not.
    pub referring_path_hash: Option<Box<str>>,
    /// `nr.referringTransactionGuid`.
    pub referring_transaction_guid: Option<Box<str>>,
    /// `nr.alternatePathHashes`: the other hashes sent, in ascending order, joined by commas.
    pub alternate_path_hashes: Option<String>,
}

impl Intrinsics {
    /// The attributes of the Transaction record.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let trip = self.trip.as_ref();
        let client = self.client_cross_process_id.as_ref();
        [
            (&keys::NR_GUID, trip.map(|trip| trip.guid.as_str())),
            (&keys::NR_TRIP_ID, trip.map(|trip| trip.trip_id.as_str())),
            (&keys::NR_PATH_HASH, trip.map(|trip| trip.path_hash.as_str())),
            (&keys::NR_REFERRING_PATH_HASH, trip.and_then(|trip| trip.referring_path_hash.as_deref())),
            (&keys::NR_REFERRING_TRANSACTION_GUID, trip.and_then(|trip| trip.referring_transaction_guid.as_deref())),
            (&keys::NR_ALTERNATE_PATH_HASHES, trip.and_then(|trip| trip.alternate_path_hashes.as_deref())),
            (&keys::CLIENT_CROSS_PROCESS_ID, client.map(CrossProcessId::as_str)),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some(Attribute { name: Name::Known(key), value: Value::Text(text?.as_bytes()) }))
    }
}
