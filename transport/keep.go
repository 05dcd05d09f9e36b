package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"peerstate/store"
)

// serveKeep keeps what another node sends, for as long as the stream lives.
func (l *link) serveKeep(s *stream, header []byte) error {
	m := l.mesh
	leave, err := l.enterBulk()
	if err != nil {
		return err
	}
	defer leave()
	from := store.Peer{Node: l.node.name, Instance: l.instance}
	r := bufio.NewReaderSize(s, 2*keepBuffer)
	var back kept
	for {
		var k keep
		if err := decode(header, &k); err != nil {
			return err
		}
		if err := checkKey(k.Key); err != nil {
			return err
		}
		if err := s.link.quota.records.Wait(s.Context()); err != nil {
			return err
		}
		rec, err := m.readKeep(s, r, &k)
		done := store.KeepRefused
		switch {
		case errors.Is(err, errNoRoom):
			m.store.Refuse(store.RefusedBackup, k.Record.Size)
		case err != nil:
			return err
		default:
			done = l.keepIn(from, k.Kind, rec)
			m.store.GiveBack(rec.Counted)
		}
		if done != store.KeepDone {
			back.But = append(back.But, keptBut{Index: back.Count, Kind: done})
			m.metrics.backup(incoming, "not kept")
		} else {
			m.metrics.backup(incoming, "kept")
		}
		if done == store.KeepRefused && k.Kind == store.ParcelBury {
			s.link.quota.refuse(refusedDeletion)
		}
		if done == store.KeepNewer {
			m.reviewSoon() // it may be that of a node which is gone
		}
		if back.Count++; back.Count == keepAnswers || r.Buffered() == 0 {
			if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
				return err
			}
			if err := writeFrame(s, kindKept, back); err != nil {
				return err
			}
			back = kept{}
		}
		// The next one may come in a day; what has begun must go on.
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		switch _, err := r.Peek(1); {
		case errors.Is(err, io.EOF):
			return nil // all was answered; the next ones come on another stream
		case err != nil:
			return err
		}
		if err := s.SetReadDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		var next kind
		next, header, err = readFrame(r)
		if err != nil {
			return err
		}
		if next != kindKeep {
			return fmt.Errorf("%w: kind %d among backups", errFrame, next)
		}
	}
}

// keepIn has the store keep what came over the link, unless that is over.
func (l *link) keepIn(from store.Peer, kind store.ParcelKind, rec store.Record) store.KeepKind {
	if !l.enter() {
		return store.KeepRefused
	}
	defer l.gate.RUnlock()
	return l.mesh.store.Keep(from, kind, rec)
}

// readKeep checks a keep and reads its body.
func (m *Mesh) readKeep(s *stream, r *bufio.Reader, k *keep) (store.Record, error) {
	switch k.Kind {
	case store.ParcelCopy:
		return m.readRecord(s, r, k.Key, k.Record)
	case store.ParcelRenew, store.ParcelBury, store.ParcelForget:
	default:
		return store.Record{}, fmt.Errorf("%w: a backup of kind %d", errFrame, k.Kind)
	}
	if k.Record == nil || k.Record.Size != 0 {
		return store.Record{}, fmt.Errorf("%w: a backup with a body that has none", errFrame)
	}
	rec := k.Record.record(k.Key)
	check := rec.Check
	if k.Kind != store.ParcelRenew {
		check = rec.CheckNote
	}
	if err := check(); err != nil {
		return rec, fmt.Errorf("%w: %w", errFrame, err)
	}
	return rec, nil
}
