package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"testing"
)

var allReasons = []Reason{Absent, Unreadable, AnotherCA, AnotherFarm, Expired, NotYetValid, NoNodeName, Unfit, Revoked}

func TestEachReasonHasAnAlertOfItsOwnThatTellsIt(t *testing.T) {
	if len(allReasons) != len(reasons)-1 {
		t.Fatalf("%d reasons are tested, there are %d", len(allReasons), len(reasons)-1)
	}
	for _, r := range allReasons {
		got, ok := ReasonOfAlert(uint8(r.Alert()))
		if !ok || got != r {
			t.Errorf("alert %d of %q is read as %q, %v", r.Alert(), r, got, ok)
		}
		if r.String() == "" || r.Advice() == "" {
			t.Errorf("reason %d has no text or no advice", r)
		}
	}
}

func TestOtherAlertsAreNoReasons(t *testing.T) {
	for _, alert := range []uint8{0, 10, 40, 80, 120, 255} {
		if r, ok := ReasonOfAlert(alert); ok {
			t.Errorf("alert %d is read as %q", alert, r)
		}
	}
	for _, r := range []Reason{0, 200} {
		if r.String() != "unknown reason" || r.Advice() != "" || r.Alert() != 42 {
			t.Errorf("reason %d: %q, %q, alert %d", r, r, r.Advice(), r.Alert())
		}
	}
}

func TestARefusalIsRecognisedInTheErrorOfAHandshake(t *testing.T) {
	ours := refuse(Expired, "the certificate of %q ended", "web1")
	// As crypto/tls wraps it, with the alert that it would have sent itself.
	wrapped := fmt.Errorf("handshake: %w%.0w", ours, tls.AlertError(42))
	got, ok := RefusalOf(wrapped)
	if !ok || got != ours {
		t.Errorf("got %v, %v", got, ok)
	}
	if alert, ok := errors.AsType[tls.AlertError](wrapped); !ok || alert != 45 {
		t.Errorf("the alert that is found first is %d, want 45", alert)
	}
	if want := `expired: the certificate of "web1" ended`; ours.Error() != want {
		t.Errorf("says %q, want %q", ours, want)
	}
	if (&Refusal{Reason: Absent}).Error() != "absent" {
		t.Error("a refusal without a detail is more than its reason")
	}
}

func TestRefusalsOfTheTLSLibraryAreKnownAsWell(t *testing.T) {
	for alert, want := range map[tls.AlertError]Reason{116: Absent, 50: Unreadable, 42: Unfit, 43: Unfit} {
		got, ok := RefusalOf(fmt.Errorf("tls: something: %w", alert))
		if !ok || got.Reason != want {
			t.Errorf("alert %d: %v, %v, want %q", alert, got, ok, want)
		}
	}
	for _, err := range []error{nil, io.EOF, tls.AlertError(80)} {
		if r, ok := RefusalOf(err); ok {
			t.Errorf("%v is taken for a refusal: %v", err, r)
		}
	}
}
