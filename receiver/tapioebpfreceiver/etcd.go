// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configtls"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/registry"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/etcdwatch"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// EtcdConfig of the family etcd.
type EtcdConfig struct {
	// Executables are the file names of the programs that are etcd.
	Executables []string `mapstructure:"executables"`
	// SyscallTracepoints says whether all system calls of the node may be looked at where the kernel has no way
	// to see just those that matter.
	SyscallTracepoints bool `mapstructure:"syscall_tracepoints"`
	// Slow is how long a write or a sync takes that is told by itself; 0: each is.
	Slow time.Duration `mapstructure:"slow"`
	// ClientPorts and PeerPorts are those that etcd listens on.
	ClientPorts []int           `mapstructure:"client_ports"`
	PeerPorts   []int           `mapstructure:"peer_ports"`
	Watch       EtcdWatchConfig `mapstructure:"watch"`

	_ struct{}
}

// EtcdWatchConfig of the watch on keys.
type EtcdWatchConfig struct {
	// Endpoints of one cluster, as host:port or URL. None: nothing is watched.
	Endpoints []string `mapstructure:"endpoints"`
	// Prefix of the keys.
	Prefix string `mapstructure:"prefix"`
	// TLS says how the connection is encrypted, and who the receiver is.
	TLS configtls.ClientConfig `mapstructure:"tls"`
	// Username and Password of etcd's own authentication; empty: none.
	Username string              `mapstructure:"username"`
	Password configopaque.String `mapstructure:"password"`
	// QueueSize is how many changes may wait to be read.
	QueueSize int `mapstructure:"queue_size"`

	_ struct{}
}

const (
	maxEtcdPorts     = 16 // each is compared with those of each of etcd's connections
	maxEtcdSlow      = time.Minute
	maxEtcdEndpoints = 64
	maxEtcdPrefix    = 1024
	maxEtcdQueue     = 1 << 20
)

func defaultEtcd() EtcdConfig {
	return EtcdConfig{
		Executables:        []string{"etcd"},
		SyscallTracepoints: true,
		Slow:               100 * time.Millisecond,
		ClientPorts:        []int{2379},
		PeerPorts:          []int{2380},
		Watch: EtcdWatchConfig{
			Endpoints: []string{},
			Prefix:    registry.Prefix,
			TLS:       configtls.NewDefaultClientConfig(),
			QueueSize: 8192,
		},
	}
}

// --- checks ----------------------------------------------------------------------------------------

func (c *EtcdConfig) validate() error {
	const key = "families::etcd::"
	return errors.Join(
		validateEtcdExecutables(key+"executables", c.Executables),
		noneOrWithin(key+"slow", c.Slow, time.Microsecond, maxEtcdSlow),
		validateEtcdPorts(key+"client_ports", c.ClientPorts),
		validateEtcdPorts(key+"peer_ports", c.PeerPorts),
		c.validateDistinct(key),
		c.Watch.validate(key+"watch::"),
	)
}

func validateEtcdExecutables(key string, names []string) error {
	if n := len(names); n == 0 || n > kernel.MaxEtcdExecutables {
		return fmt.Errorf("%s: there must be 1 to %d, not %d", key, kernel.MaxEtcdExecutables, n)
	}
	var errs []error
	for i, name := range names {
		if name == "" || len(name) > kernel.MaxEtcdExecutableBytes || strings.ContainsAny(name, "/\x00") {
			errs = append(errs, fmt.Errorf("%s::%d: %q must be a file name of 1 to %d bytes, such as etcd", key, i, name, kernel.MaxEtcdExecutableBytes))
		}
	}
	return errors.Join(errs...)
}

func validateEtcdPorts(key string, ports []int) error {
	if n := len(ports); n > maxEtcdPorts {
		return fmt.Errorf("%s: %d are too many, the most are %d", key, n, maxEtcdPorts)
	}
	return validatePorts(key, ports)
}

// validateDistinct: a port cannot be for both.
func (c *EtcdConfig) validateDistinct(key string) error {
	for _, client := range c.ClientPorts {
		for i, peer := range c.PeerPorts {
			if client == peer {
				return fmt.Errorf("%speer_ports::%d: %d is among client_ports, too", key, i, peer)
			}
		}
	}
	return nil
}

func (c *EtcdWatchConfig) validate(key string) error {
	errs := []error{within(key+"queue_size", c.QueueSize, 1, maxEtcdQueue)}
	if n := len(c.Endpoints); n > maxEtcdEndpoints {
		errs = append(errs, fmt.Errorf("%sendpoints: %d are too many, the most are %d", key, n, maxEtcdEndpoints))
	}
	for i, endpoint := range c.Endpoints {
		if err := c.validateEndpoint(endpoint); err != nil {
			errs = append(errs, fmt.Errorf("%sendpoints::%d: %w", key, i, err))
		}
	}
	if n := len(c.Prefix); n == 0 || n > maxEtcdPrefix {
		errs = append(errs, fmt.Errorf("%sprefix: it must have 1 to %d bytes, not %d", key, maxEtcdPrefix, n))
	}
	return errors.Join(append(errs, c.validateUser(key))...)
}

func (c *EtcdWatchConfig) validateUser(key string) error {
	switch {
	case c.Username == "" && c.Password != "":
		return fmt.Errorf("%susername: there is a password, and nobody whose it is", key)
	case c.Username != "" && c.Password == "":
		return fmt.Errorf("%spassword: %q has none", key, c.Username)
	default:
		return nil
	}
}

// validateEndpoint: that a connection is not encrypted takes two to say, so that no slip does.
func (c *EtcdWatchConfig) validateEndpoint(endpoint string) error {
	scheme, address, isURL := strings.Cut(endpoint, "://")
	shown := withoutUser(endpoint)
	switch {
	case !isURL:
		address = endpoint
	case scheme == "http" && !c.TLS.Insecure:
		return fmt.Errorf("%q is not encrypted: say https, or set tls::insecure: true", shown)
	case scheme == "https" && c.TLS.Insecure:
		return fmt.Errorf("%q is encrypted, and tls::insecure says that it is not", shown)
	case scheme != "http" && scheme != "https":
		return fmt.Errorf("%q must be host:port, or begin with https:// or http://", shown)
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(address, "/"))
	if number, notANumber := strconv.ParseUint(port, 10, 16); err != nil || host == "" || notANumber != nil || number == 0 || strings.ContainsAny(host, "/@ ,") {
		return fmt.Errorf("%q must be host:port, such as 10.0.0.1:2379", shown)
	}
	return nil
}

// withoutUser is what may be shown of an endpoint. It goes by the text, since a password may be in what cannot be
// parsed, too.
func withoutUser(endpoint string) string {
	at := strings.LastIndexByte(endpoint, '@')
	if at < 0 {
		return endpoint
	}
	for _, scheme := range []string{"https://", "http://"} {
		if strings.HasPrefix(endpoint, scheme) {
			return scheme + "xxxxx" + endpoint[at:]
		}
	}
	return "xxxxx" + endpoint[at:]
}

// --- what it means ---------------------------------------------------------------------------------

// etcdOptions are those of log records and metrics.
func (c *Config) etcdOptions() translate.EtcdOptions {
	etcd := c.Families.Etcd.Get()
	if etcd == nil {
		return translate.EtcdOptions{}
	}
	return translate.EtcdOptions{
		Enabled: true, Executables: etcd.Executables, Slow: etcd.Slow,
		ClientPorts: portsOf(etcd.ClientPorts), PeerPorts: portsOf(etcd.PeerPorts),
	}
}

// watchedEtcd says how an etcd is watched; nil: it is not. What does not come from this kernel has nothing to
// do with the keys of now.
func (c *Config) watchedEtcd() *EtcdWatchConfig {
	etcd := c.Families.Etcd.Get()
	if c.Source != kernel.Name || etcd == nil || len(etcd.Watch.Endpoints) == 0 {
		return nil
	}
	return &etcd.Watch
}

// watchOptions are nil where no etcd is watched.
func (c *Config) watchOptions() (*etcdwatch.Options, error) {
	watch := c.watchedEtcd()
	if watch == nil {
		return nil, nil
	}
	encryption, err := watch.TLS.LoadTLSConfig(context.Background())
	if err != nil {
		return nil, fmt.Errorf("families::etcd::watch::tls: %w", err)
	}
	return &etcdwatch.Options{
		Endpoints: watch.Endpoints,
		Prefix:    watch.Prefix,
		TLS:       encryption,
		Username:  watch.Username,
		Password:  string(watch.Password),
		QueueSize: watch.QueueSize,
	}, nil
}

// startEtcd has an etcd's changes come. That they cannot be had yet is no error.
func (r *tapioReceiver) startEtcd() {
	watched, ok := recording.Unwrap(r.source).(*etcdwatch.Source)
	if !ok {
		return
	}
	watched.Start(func(err error) {
		if err != nil {
			err = fmt.Errorf("families::etcd::watch: %w", err)
		}
		r.status.trouble("etcd", err)
	})
}

// EtcdStats are how the watch on an etcd does, as /stats shows it.
type EtcdStats struct {
	// Revision up to which all changes are known; 0: etcd has not been reached yet.
	Revision int64 `json:"revision"`
	// Error says why etcd is not being watched just now; what changes meanwhile is told later.
	Error string `json:"error,omitempty"`
}

func (r *tapioReceiver) etcdStats() *EtcdStats {
	watched, ok := recording.Unwrap(r.source).(*etcdwatch.Source)
	if !ok {
		return nil
	}
	status := watched.Status()
	stats := &EtcdStats{Revision: status.Revision}
	if status.Err != nil {
		stats.Error = status.Err.Error()
	}
	return stats
}
