// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import "slices"

// request is what is known of one side of a request, or waited for. It has no pointers: there may be
// maxRequests of them, and the garbage collector passes them over.
type request struct {
	key      requestKey
	spot     spot
	seen     bool // it has come, but may wait itself
	placed   bool
	answered bool
	rare     bool // more of it is in requests.rare
	known    bool // by its key
	children int
	since    uint64
	users    int32  // units and calls that refer to it
	waiters  uint32 // number of its list; 0: nobody waits
	slot     uint32
}

type requestKey struct {
	link   Link
	server bool
}

// spot is what others need of a Place, but for the tracestate, which few have.
type spot struct {
	traceID          [16]byte
	spanID, parentID [8]byte
	flags            uint32
	depth            int32
	began, since     uint64
}

// rarely is what few requests have.
type rarely struct {
	state string // W3C tracestate
	// opening is where the connection's is that it would be the first of; nil: not known, or not alone.
	opening *Place
}

// slotsOfChunk requests are taken from the heap at once.
const slotsOfChunk = 512

// requests are those that are known, the oldest first, and those that are not any more, but that a unit still
// refers to. A slot is used again when there is no such unit.
type requests struct {
	chunks  []*[slotsOfChunk]request
	free    []uint32 // slots
	index   index
	order   []uint32             // slots of all that are known, by since
	waiters [][]*Unit            // lists, by number; that of 0 is empty
	unused  []uint32             // lists
	rare    map[*request]*rarely // of few
}

func newRequests() requests {
	return requests{
		index: newIndex(), waiters: make([][]*Unit, 1), rare: map[*request]*rarely{},
	}
}

// known is how many are known.
func (r *requests) known() int { return len(r.order) }

func (r *requests) at(slot uint32) *request { return &r.chunks[slot/slotsOfChunk][slot%slotsOfChunk] }

// find returns nil if it is not known.
func (r *requests) find(key requestKey) *request {
	at, ok := r.placeInIndex(key)
	if !ok {
		return nil
	}
	return r.at(r.index.entries[at].slot - 1)
}

func (r *requests) placeInIndex(key requestKey) (at int, ok bool) {
	return r.index.find(r.index.tagOf(key), func(slot uint32) bool { return r.at(slot).key == key })
}

// add one that is not known.
func (r *requests) add(key requestKey, now uint64) *request {
	slot := r.take()
	added := r.at(slot)
	*added = request{key: key, since: now, known: true, slot: slot}
	r.index.add(r.index.tagOf(key), slot)
	r.order = append(r.order, slot)
	return added
}

func (r *requests) take() uint32 {
	if len(r.free) == 0 {
		first := uint32(len(r.chunks) * slotsOfChunk)
		r.chunks = append(r.chunks, new([slotsOfChunk]request))
		for slot := first + slotsOfChunk; slot > first; slot-- {
			r.free = append(r.free, slot-1)
		}
	}
	last := len(r.free) - 1
	slot := r.free[last]
	r.free = r.free[:last]
	return slot
}

func (r *requests) oldest() *request { return r.at(r.order[0]) }

// keepOldest puts it at the end.
func (r *requests) keepOldest() { r.order = append(r.order[1:], r.order[0]) }

func (r *requests) forgetOldest() {
	oldest := r.oldest()
	r.order = r.order[1:]
	if at, ok := r.placeInIndex(oldest.key); ok {
		r.index.remove(at)
	}
	oldest.known = false
	r.freeUnused(oldest)
}

func (r *requests) use(used *request) { used.users++ }

// release one that was used; nil: there was none.
func (r *requests) release(used *request) {
	if used == nil {
		return
	}
	used.users--
	r.freeUnused(used)
}

func (r *requests) freeUnused(of *request) {
	if of.known || of.users > 0 {
		return
	}
	r.reuse(of.waiters)
	if of.rare {
		delete(r.rare, of)
	}
	r.free = append(r.free, of.slot)
	if len(r.free) == len(r.chunks)*slotsOfChunk {
		*r = newRequests() // let go of what so many have needed
	}
}

// rarely is for writing.
func (r *requests) rarely(of *request) *rarely {
	if !of.rare {
		of.rare = true
		r.rare[of] = &rarely{}
	}
	return r.rare[of]
}

// --- who waits for a request ----------------------------------------------------------------------

func (r *requests) waitersOf(of *request) []*Unit { return r.waiters[of.waiters] }

func (r *requests) addWaiter(of *request, unit *Unit) {
	if of.waiters == 0 {
		of.waiters = r.takeList()
	}
	r.waiters[of.waiters] = append(r.waiters[of.waiters], unit)
}

func (r *requests) takeList() uint32 {
	if len(r.unused) == 0 {
		r.waiters = append(r.waiters, nil)
		return uint32(len(r.waiters) - 1)
	}
	last := len(r.unused) - 1
	list := r.unused[last]
	r.unused = r.unused[:last]
	return list
}

// takeWaiters off a request; reuse is to be called with what is returned, when they are not looked at any more.
func (r *requests) takeWaiters(of *request) (list uint32) {
	list, of.waiters = of.waiters, 0
	return list
}

// maxReused units is what a list may have room for that is kept for others.
const maxReused = 64

func (r *requests) reuse(list uint32) {
	if list == 0 {
		return
	}
	clear(r.waiters[list])
	r.waiters[list] = r.waiters[list][:0]
	if cap(r.waiters[list]) > maxReused {
		r.waiters[list] = nil
	}
	r.unused = append(r.unused, list)
}

// dropPlaced says whether there are others.
func (r *requests) dropPlaced(of *request) bool {
	left := slices.DeleteFunc(r.waiters[of.waiters], func(unit *Unit) bool { return unit.placed })
	r.waiters[of.waiters] = left
	return len(left) > 0
}

// --- where a request is --------------------------------------------------------------------------

func (r *requests) setPlace(of *request, place *Place) {
	of.placed = true
	of.spot = spot{
		traceID: place.TraceID, spanID: place.SpanID, parentID: place.ParentID, flags: place.Flags,
		depth: int32(place.depth), began: place.began, since: place.since,
	}
	if place.State != "" || of.rare { // a link that comes again has nothing of its first place
		r.rarely(of).state = place.State
	}
}

// placeOf a request that is placed, as far as others need it.
func (r *requests) placeOf(of *request) Place {
	place := Place{
		TraceID: of.spot.traceID, SpanID: of.spot.spanID, ParentID: of.spot.parentID, Flags: of.spot.flags,
		depth: int(of.spot.depth), began: of.spot.began, since: of.spot.since,
	}
	if of.rare {
		place.State = r.rare[of].state
	}
	return place
}
