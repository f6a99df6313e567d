//! The items of an interval of hashes: a hash table of their places, the small ones in an arena,
//! each other in an allocation of its own.
//!
//! A place is 4 bytes and has no hash: where one is needed (the table grows, is split or listed) it
//! is computed from the key. What finds a key compares it with the keys of the places whose 7 bits
//! in the table are the same, one in 128 by chance.
//!
//! Invariants: `places` has exactly one place for each small item of `arena` and each item of
//! `large`; where an item lies is seen by nobody.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::arena::Arena;
use super::hasher::KeyHasher;
use super::item::{Item, ItemView};

/// A table with fewer buckets is not shrunk.
const CAPACITY_MIN: usize = 16;

/// Items by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct SubTable {
    places: HashTable<Place>,
    arena: Arena,
    large: Vec<Item>,
}

/// Where an item is: its offset in the arena, or [`Place::LARGE`] and its number in `large`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

/// An item that leaves its table.
#[derive(Debug)]
pub(crate) enum Leaving<'a> {
    /// It lies in the table's memory.
    Small(ItemView<'a>),
    /// It has memory of its own.
    Large(Item),
}

impl Leaving<'_> {
    /// What it is.
    pub(crate) fn view(&self) -> ItemView<'_> {
        match self {
            Self::Small(view) => *view,
            Self::Large(item) => item.view(),
        }
    }

    /// The item with memory of its own.
    pub(crate) fn into_item(self) -> Item {
        match self {
            Self::Small(view) => Item::new(view.key(), view.value(), view.expires_at_ms()),
            Self::Large(item) => item,
        }
    }
}

impl SubTable {
    /// Adds an item whose key is not here. The caller has checked that.
    pub(super) fn insert(
        &mut self,
        hasher: &KeyHasher,
        hash: u64,
        key: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
    ) {
        let place = self.store(key, value, expires_at_ms);
        self.add_place(hasher, hash, place);
    }

    /// Gives a key that is here another value and expiry. What it was has left if it had memory of
    /// its own and has it no more.
    pub(super) fn replace(
        &mut self,
        hasher: &KeyHasher,
        bucket: Bucket,
        key: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Option<Item> {
        let place = self.place(bucket);
        let mut left = None;
        match place.large() {
            None => {
                if !self.arena.overwrite(place.0, value, expires_at_ms) {
                    self.arena.remove(place.0);
                    self.move_to(bucket, key, value, expires_at_ms);
                }
                self.pack_if_sparse();
            }
            Some(number) => {
                let item = &mut self.large[number];
                if !Arena::is_small(key.len(), value.len()) && item.fits(value.len()) {
                    item.replace_value(value);
                    item.set_expiry(expires_at_ms);
                } else {
                    left = Some(self.take_large(hasher, number));
                    self.move_to(bucket, key, value, expires_at_ms);
                }
            }
        }
        left
    }

    /// Adds `tail` to the end of a value.
    pub(super) fn append(&mut self, bucket: Bucket, tail: &[u8]) {
        let place = self.place(bucket);
        if let Some(number) = place.large() {
            self.large[number].append(tail);
            return;
        }
        let view = self.arena.view(place.0);
        if Arena::is_small(view.key_len, view.value().len() + tail.len()) {
            let mut body = Body::from_slice(view.body);
            body.extend_from_slice(tail);
            let (key, value) = body.split_at(view.key_len);
            let expires_at_ms = view.expires_at_ms;
            self.arena.remove(place.0);
            self.move_to(bucket, key, value, expires_at_ms);
        } else {
            let mut item = Leaving::Small(view).into_item();
            item.append(tail);
            self.arena.remove(place.0);
            self.set_place(bucket, Place::of_large(self.large.len()));
            self.large.push(item);
        }
        self.pack_if_sparse();
    }

    /// Changes when a key expires.
    pub(super) fn set_expiry(&mut self, bucket: Bucket, expires_at_ms: Option<u64>) {
        let place = self.place(bucket);
        if let Some(number) = place.large() {
            self.large[number].set_expiry(expires_at_ms);
        } else if !self.arena.set_expiry(place.0, expires_at_ms) {
            let view = self.arena.view(place.0);
            let (body, key_len) = (Body::from_slice(view.body), view.key_len);
            let (key, value) = body.split_at(key_len);
            self.arena.remove(place.0);
            self.move_to(bucket, key, value, expires_at_ms);
            self.pack_if_sparse();
        }
    }

    /// Takes the item of a key out and gives it to `out`, if it is here.
    pub(super) fn remove<R>(
        &mut self,
        hasher: &KeyHasher,
        hash: u64,
        key: &[u8],
        out: impl FnOnce(Leaving<'_>) -> R,
    ) -> Option<R> {
        let Self { places, arena, large } = self;
        let found = places.find_entry(spread(hash), |place| place.view(arena, large).key() == key);
        let (place, _) = found.ok()?.remove();
        let result = match place.large() {
            None => {
                let result = out(Leaving::Small(arena.view(place.0)));
                arena.remove(place.0);
                result
            }
            Some(number) => out(Leaving::Large(self.take_large(hasher, number))),
        };
        self.pack_if_sparse();
        let Self { places, arena, large } = self;
        let len = places.len();
        if places.capacity() > CAPACITY_MIN && len < places.capacity() / 8 {
            places.shrink_to(len * 2, |place| spread(place.hash(hasher, arena, large)));
            large.shrink_to(len * 2);
        }
        Some(result)
    }

    /// Moves the items whose hash is `middle` or above into a table of their own.
    pub(super) fn split_off(&mut self, hasher: &KeyHasher, middle: u64) -> Self {
        let whole = std::mem::take(self);
        let half = (whole.len() / 2, whole.arena.used() / 2);
        *self = Self::with_room(half);
        let mut upper = Self::with_room(half);
        whole.drain(hasher, |hash, item| {
            let half = if hash < middle { &mut *self } else { &mut upper };
            half.put(hasher, hash, item);
        });
        upper
    }

    /// Takes over the items of `other`.
    pub(super) fn absorb(&mut self, hasher: &KeyHasher, other: Self) {
        other.drain(hasher, |hash, item| self.put(hasher, hash, item));
    }

    /// Takes the table apart for being freed: what is left are the items with memory of their own.
    pub(super) fn into_large(self) -> std::vec::IntoIter<Item> {
        self.large.into_iter()
    }

    /// Where a key is.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Bucket> {
        let Self { places, arena, large } = self;
        let is_it = |place: &Place| place.view(arena, large).key() == key;
        places.find_bucket_index(spread(hash), is_it).map(Bucket)
    }

    /// The item of a key.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<ItemView<'_>> {
        let Self { places, arena, large } = self;
        let is_it = |place: &Place| place.view(arena, large).key() == key;
        places.find(spread(hash), is_it).map(|place| place.view(arena, large))
    }

    /// The item there.
    pub(super) fn view(&self, bucket: Bucket) -> ItemView<'_> {
        self.place(bucket).view(&self.arena, &self.large)
    }

    /// Reads the memory that finding a key of this hash reads, and gives back some of it.
    pub(super) fn touch(&self, hash: u64) -> u64 {
        let Self { places, arena, large } = self;
        let ends = |view: ItemView<'_>| Some(*view.body.first()? ^ *view.body.last()?);
        let read = |place: &Place| ends(place.view(arena, large)).unwrap_or(0);
        places.find(spread(hash), |_| true).map_or(hash, |place| u64::from(read(place)))
    }

    /// The items whose key has this hash, in no order.
    pub(super) fn with_hash<'a>(
        &'a self,
        hasher: &'a KeyHasher,
        hash: u64,
    ) -> impl Iterator<Item = ItemView<'a>> {
        let likely = self.places.iter_hash(spread(hash));
        let views = likely.map(|place| place.view(&self.arena, &self.large));
        views.filter(move |view| hasher.hash(view.key()) == hash)
    }

    /// All items, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = ItemView<'_>> {
        self.places.iter().map(|place| place.view(&self.arena, &self.large))
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes that freeing it by [`SubTable::into_large`] frees at once.
    pub(super) fn allocated(&self) -> usize {
        self.arena.allocated() + self.places.allocation_size()
    }

    /// Whether it has no memory.
    pub(super) fn is_unused(&self) -> bool {
        self.places.capacity() == 0
    }

    /// An empty one with room for so many items, and so many bytes of small ones.
    fn with_room((items, bytes): (usize, usize)) -> Self {
        let places = HashTable::with_capacity(items);
        Self { places, arena: Arena::with_room(bytes), large: Vec::new() }
    }

    /// Stores an item, which has no place in the table yet.
    fn store(&mut self, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> Place {
        let small = self.arena.push(key, value, expires_at_ms).map(Place);
        small.unwrap_or_else(|| {
            self.large.push(Item::new(key, value, expires_at_ms));
            Place::of_large(self.large.len() - 1)
        })
    }

    /// Stores another item for a key, whose former one was removed.
    fn move_to(&mut self, bucket: Bucket, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) {
        let place = self.store(key, value, expires_at_ms);
        self.set_place(bucket, place);
    }

    fn put(&mut self, hasher: &KeyHasher, hash: u64, item: Leaving<'_>) {
        let place = match item {
            Leaving::Small(view) => self.store(view.key(), view.value(), view.expires_at_ms),
            Leaving::Large(item) => {
                self.large.push(item);
                Place::of_large(self.large.len() - 1)
            }
        };
        self.add_place(hasher, hash, place);
    }

    fn add_place(&mut self, hasher: &KeyHasher, hash: u64, place: Place) {
        let Self { places, arena, large } = self;
        let hash_of = |place: &Place| spread(place.hash(hasher, arena, large));
        places.insert_unique(spread(hash), place, hash_of);
    }

    /// Gives all items with their hashes away.
    fn drain(self, hasher: &KeyHasher, mut give: impl FnMut(u64, Leaving<'_>)) {
        let Self { places, arena, large } = self;
        let mut large: Vec<Option<Item>> = large.into_iter().map(Some).collect();
        for place in places {
            let item = match place.large() {
                None => Leaving::Small(arena.view(place.0)),
                Some(number) => {
                    Leaving::Large(large[number].take().expect("a place is of one item"))
                }
            };
            give(hasher.hash(item.view().key()), item);
        }
    }

    /// Takes a large item whose place is gone or will be another; the last one takes its number.
    fn take_large(&mut self, hasher: &KeyHasher, number: usize) -> Item {
        let taken = self.large.swap_remove(number);
        if let Some(moved) = self.large.get(number) {
            let last = Place::of_large(self.large.len());
            let hash = spread(hasher.hash(moved.key()));
            let place = self.places.find_mut(hash, |&place| place == last);
            *place.expect("each item has a place") = Place::of_large(number);
        }
        taken
    }

    fn pack_if_sparse(&mut self) {
        if self.arena.is_sparse() {
            let small = self.places.iter_mut().filter(|place| place.large().is_none());
            self.arena.pack(small.map(|place| &mut place.0));
        }
    }

    fn place(&self, bucket: Bucket) -> Place {
        *self.places.get_bucket(bucket.0).expect("the key was just found")
    }

    fn set_place(&mut self, bucket: Bucket, place: Place) {
        *self.places.get_bucket_mut(bucket.0).expect("the key was just found") = place;
    }
}

/// Where [`SubTable::find`] has found a key. It holds until items come or go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket(usize);

/// Key and value of a small item on their way.
type Body = SmallVec<[u8; 512]>;

impl Place {
    const LARGE: u32 = 1 << 31;

    fn of_large(number: usize) -> Self {
        Self(number as u32 | Self::LARGE)
    }

    /// The number in `large`, if it is there.
    fn large(self) -> Option<usize> {
        (self.0 & Self::LARGE != 0).then_some((self.0 & !Self::LARGE) as usize)
    }

    fn view<'a>(self, arena: &'a Arena, large: &'a [Item]) -> ItemView<'a> {
        match self.large() {
            None => arena.view(self.0),
            Some(number) => large[number].view(),
        }
    }

    fn hash(self, hasher: &KeyHasher, arena: &Arena, large: &[Item]) -> u64 {
        hasher.hash(self.view(arena, large).key())
    }
}

/// The hash as the tables take it. They look at the top and at the bottom bits; the top ones are
/// nearly the same for all items of a sub-table.
fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

#[cfg(test)]
mod tests;
