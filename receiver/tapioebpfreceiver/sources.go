// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/etcdwatch"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/replay"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"
)

// openSource opens the source that the config names, and the recording of it if there is to be one.
func openSource(cfg *Config, set receiver.Settings) (source.Source, error) {
	from, err := openNamed(cfg, set.Logger)
	if err != nil || cfg.Recording.File == "" {
		return from, err
	}
	return openRecording(from, cfg, set)
}

func openRecording(from source.Source, cfg *Config, set receiver.Settings) (source.Source, error) {
	node, err := nodeOf(cfg, from)
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	recorder, err := recording.Record(from, recording.Options{
		File:      cfg.Recording.File,
		MaxSize:   uint64(cfg.Recording.MaxSize),
		Families:  cfg.families(),
		Collector: set.BuildInfo.Version,
		Node:      node,
	}, set.Logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("recording::file: %w", err), from.Close())
	}
	return recorder, nil
}

// nodeOf is the node's name in the Kubernetes that the source's names are from; empty where there is none.
func nodeOf(cfg *Config, from source.Source) (string, error) {
	if cfg.Source == simulator.Name { // its host is a node, and not this one
		return from.HostName()
	}
	if played, ok := from.(*replay.Source); ok {
		return played.NodeName(), nil
	}
	return cfg.nodeName(), nil
}

// replaySourceOf is where the events were from when they were recorded; empty where none are played.
func replaySourceOf(from source.Source) string {
	if played, ok := from.(*replay.Source); ok {
		return played.Recorded()
	}
	return ""
}

func openNamed(cfg *Config, logger *zap.Logger) (source.Source, error) {
	switch cfg.Source {
	case simulator.Name:
		return openSimulator(simulator.Options{
			Rate:           cfg.Simulator.Rate,
			Seed:           cfg.Simulator.Seed,
			Pods:           cfg.Simulator.Pods,
			Scenarios:      scenariosOf(&cfg.Simulator.Scenarios),
			Families:       cfg.families(),
			Security:       optionsOf(cfg).Security,
			ReportInterval: optionsOf(cfg).ReportInterval, // as the kernel would do it
			FlushInterval:  flushInterval(cfg),
		}, logger)
	case replay.Name:
		return openReplay(cfg, logger)
	default:
		return openKernel(cfg, logger)
	}
}

func openKernel(cfg *Config, logger *zap.Logger) (source.Source, error) {
	watch, err := cfg.watchOptions() // first: its files are sooner looked at than programs are loaded
	if err != nil {
		return nil, err
	}
	from, err := kernel.New(optionsOf(cfg), logger)
	if err != nil || watch == nil {
		return from, err
	}
	return etcdwatch.New(from, *watch, logger), nil
}

func openReplay(cfg *Config, logger *zap.Logger) (source.Source, error) {
	s, err := replay.New(replay.Options{
		File:          cfg.Replay.File,
		Speed:         cfg.Replay.Speed,
		Families:      cfg.families(),
		FlushInterval: flushInterval(cfg),
	}, logger)
	if err != nil {
		return nil, fmt.Errorf("replay::file: %w", err)
	}
	return s, nil
}

func openSimulator(options simulator.Options, logger *zap.Logger) (source.Source, error) {
	s, err := simulator.New(options, logger)
	if err != nil { // not a *Source that is nil, which would be a Source
		return nil, fmt.Errorf("families::security::sensitive_paths: %w", err)
	}
	return s, nil
}

func scenariosOf(cfg *ScenariosConfig) simulator.Scenarios {
	return simulator.Scenarios{
		Errors:        cfg.Errors,
		SearchLists:   cfg.SearchLists,
		NXDomainStorm: cfg.NXDomainStorm,
		CrashLoop:     cfg.CrashLoop,
		NoisyNeighbor: cfg.NoisyNeighbor,
		Attack:        cfg.Attack,
	}
}

// maxRead is how long the reader may be away: it does all else between two reads, and is not shut down before.
const maxRead = time.Second

func flushInterval(cfg *Config) time.Duration {
	return min(cfg.Ring.FlushInterval, cfg.Batch.Timeout, cfg.Metrics.Interval, maxRead)
}

// optionsOf is what the config means for the kernel.
func optionsOf(cfg *Config) kernel.Options {
	options := kernel.Options{
		Families:      cfg.families(),
		Cgroups:       cfg.Scope.Cgroups,
		RingSize:      uint32(cfg.Ring.Size),
		FlushInterval: flushInterval(cfg),
		RateLimits:    cfg.RateLimits.byFamily(),
		// without the family network, too: sockets are visited, so that exchanges of those that are
		// gone are noticed
		ReportInterval: defaultReportInterval,
	}
	if process := cfg.Families.Process.Get(); process != nil {
		if process.Arguments {
			options.MaxArgumentBytes = uint32(process.MaxArgumentBytes)
		}
	}
	if network := cfg.Families.Network.Get(); network != nil {
		options.ReportInterval = network.ReportInterval
		options.TLSHandshakes = network.TLSHandshakes
	}
	if dns := cfg.Families.DNS.Get(); dns != nil {
		options.DNSPorts = portsOf(dns.Ports)
		options.DNSTimeout = dns.Timeout
	}
	if http := cfg.Families.HTTP.Get(); http != nil {
		options.MaxInFlight = uint32(http.MaxInFlight)
		options.ResponseHeads = len(http.Headers.Response) > 0
		options.Causes = cfg.Correlation.InProcess
	}
	if security := cfg.Families.Security.Get(); security != nil {
		options.Security = security.kernelOptions()
	}
	if cni := cfg.Families.CNI.Get(); cni != nil {
		options.CNI = cni.kernelOptions()
	}
	if etcd := cfg.Families.Etcd.Get(); etcd != nil {
		options.Etcd = kernel.EtcdOptions{Executables: etcd.Executables, SyscallTracepoints: etcd.SyscallTracepoints}
	}
	return options
}
