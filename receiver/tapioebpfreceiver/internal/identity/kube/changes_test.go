// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

func taken(c *changes) (ids []string, isAny bool) {
	isAny = c.take(func(id string) { ids = append(ids, id) })
	return ids, isAny
}

func TestChangesAreTakenOnce(t *testing.T) {
	var c changes
	c.add("a")
	c.add("b")
	ids, isAny := taken(&c)
	assert.ElementsMatch(t, []string{"a", "b"}, ids)
	assert.False(t, isAny)
	ids, isAny = taken(&c)
	assert.Empty(t, ids)
	assert.False(t, isAny)
}

// Where nobody takes them, as when reading has ended, they do not grow without end.
func TestTooManyChangesAreAny(t *testing.T) {
	var c changes
	for i := range maxChanges {
		c.add(strconv.Itoa(i))
	}
	c.add("one more")
	c.add("another")
	assert.Nil(t, c.latest.Load().before)
	ids, isAny := taken(&c)
	assert.Empty(t, ids)
	assert.True(t, isAny)
	c.add("c")
	ids, isAny = taken(&c)
	assert.Equal(t, []string{"c"}, ids)
	assert.False(t, isAny)
}

func TestChangesOfSeveralGoroutines(t *testing.T) {
	var c changes
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 1000 {
				c.add(strconv.Itoa(w*1000 + i))
			}
		})
	}
	seen := map[string]int{}
	for len(seen) < 4000 {
		assert.False(t, c.take(func(id string) { seen[id]++ }))
	}
	writers.Wait()
	for id, n := range seen {
		assert.Equal(t, 1, n, id)
	}
}
