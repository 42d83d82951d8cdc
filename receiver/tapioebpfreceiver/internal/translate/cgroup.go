// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

// cgroupChange is no event for the user: it is in the resources of those that come after it.
func (t *Translator) cgroupChange(kind event.Type, record []byte) (outcome, error) {
	e, err := event.DecodeCgroupChange(record)
	if err != nil {
		return absorbed, err
	}
	switch kind {
	case event.TypeCgroupMade:
		t.index.CgroupMade(&e)
	case event.TypeCgroupRemoved:
		t.index.CgroupRemoved(&e)
	case event.TypeCgroupJoined:
		t.index.CgroupJoined(&e)
	}
	return absorbed, nil
}
