// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Side is one of the two collectors that are compared.
type Side struct {
	// Name of its source: "ebpf".
	Name   string
	Shape  Shape
	Ledger map[string]Row // when it had ended
	CPU    time.Duration  // user and system
	RSS    int64          // bytes
	Ran    time.Duration
}

// Row of the ledger.
type Row struct {
	Seen, Exported, Aggregated, Filtered uint64
	InFlight                             uint64 `json:"in_flight"`
	Lost                                 map[string]uint64
}

// NewSide has said nothing so far.
func NewSide(name string) *Side { return &Side{Name: name, Shape: Shape{}} }

// Closes says whether each event is in exactly one place.
func (r *Row) Closes() bool {
	return r.Seen == r.Exported+r.Aggregated+r.Filtered+r.InFlight+r.lost()
}

func (r *Row) lost() (sum uint64) {
	for _, n := range r.Lost {
		sum += n
	}
	return sum
}

// endpoints is the family of what is no telemetry, but is asked for by HTTP.
const endpoints = "endpoints"

// AddEndpoint adds what an endpoint of the extension answered. Of JSON the keys and the types count; those
// of objects that have a key for each family are as one.
func (s *Side) AddEndpoint(path string, status int, body []byte) error {
	r := record{group: Group{Family: endpoints, Signal: "http", Name: path}, features: map[string]string{}}
	r.has("status", strconv.Itoa(status))
	var content any
	if err := json.Unmarshal(body, &content); err != nil {
		return fmt.Errorf("%s is no JSON: %w", path, err)
	}
	r.json("", content)
	s.Shape.add(&r)
	return nil
}

// byFamily are the objects of /stats whose keys are families, or reasons.
var byFamily = map[string]bool{".ledger": true, ".ledger.*.lost": true, ".event_counts": true, ".missed_runs": true}

func (r *record) json(path string, content any) {
	switch value := content.(type) {
	case map[string]any:
		for key, element := range value {
			if byFamily[path] {
				key = "*"
			}
			r.json(path+"."+key, element)
		}
	case []any:
		for _, element := range value {
			r.json(path+"[]", element)
		}
	default:
		r.has("key "+path, fmt.Sprintf("%T", value))
	}
}
