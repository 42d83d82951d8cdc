// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
)

// defaultPeers are the addresses that are private to a site, where there are agents on other nodes, too:
// RFC 1918, RFC 6598, RFC 3927, RFC 4193, and RFC 4291, 2.5.6.
func defaultPeers() []string {
	return []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"}
}

func (c *CorrelationConfig) validate() error {
	errs := []error{
		noneOrWithin("correlation::max_wait", c.MaxWait, time.Millisecond, 10*time.Minute),
		within("correlation::max_held", c.MaxHeld, 0, maxHeldSpans),
	}
	if len(c.Peers) > maxPeers {
		errs = append(errs, fmt.Errorf("correlation::peers: %d are given, at the most %d may be", len(c.Peers), maxPeers))
	}
	for i, peer := range c.Peers {
		if _, err := netip.ParsePrefix(peer); err != nil {
			errs = append(errs, fmt.Errorf("correlation::peers::%d: %q is no address range such as 10.0.0.0/8", i, peer))
		}
	}
	return errors.Join(errs...)
}

// options of a config that is valid.
func (c *CorrelationConfig) options(givenUp *correlate.GivenUp) correlate.Options {
	options := correlate.Options{MaxWait: c.MaxWait, MaxHeld: c.MaxHeld, GivenUp: givenUp}
	for _, peer := range c.Peers {
		options.Peers = append(options.Peers, netip.MustParsePrefix(peer).Masked())
	}
	return options
}
