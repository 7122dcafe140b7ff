package rpc

import (
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
	"github.com/secgossip/secgossip/rpcauth"
)

// Rules says which verb each procedure asks for at the gate. A procedure without
// a rule is refused to everybody.
func Rules() map[string]rpcauth.Rule {
	return map[string]rpcauth.Rule{
		secgossipv1connect.AgentServiceFireEventProcedure:    {AnyOf: []rpcauth.Verb{rpcauth.FireEvent}, Mutates: true},
		secgossipv1connect.AgentServiceFollowEventProcedure:  {AnyOf: []rpcauth.Verb{rpcauth.FireEvent}},
		secgossipv1connect.AgentServiceListMembersProcedure:  {AnyOf: []rpcauth.Verb{rpcauth.MembersRead}},
		secgossipv1connect.AgentServiceGetInfoProcedure:      {AnyOf: []rpcauth.Verb{rpcauth.MembersRead}},
		secgossipv1connect.AgentServiceStreamEventsProcedure: {AnyOf: []rpcauth.Verb{rpcauth.Monitor}},
		secgossipv1connect.AgentServiceLeaveProcedure:        {AnyOf: []rpcauth.Verb{rpcauth.NodeLeave}, Mutates: true},
		secgossipv1connect.AgentServiceRotateKeysProcedure:   {AnyOf: []rpcauth.Verb{rpcauth.KeysRotate}, Mutates: true},
		secgossipv1connect.AgentServiceListHandlersProcedure: {AnyOf: []rpcauth.Verb{rpcauth.Monitor}},
		secgossipv1connect.AgentServiceListRunsProcedure:     {AnyOf: []rpcauth.Verb{rpcauth.Monitor}},
		secgossipv1connect.AgentServiceReloadProcedure:       {AnyOf: []rpcauth.Verb{rpcauth.Admin}, Mutates: true},
		secgossipv1connect.AgentServiceListKeysProcedure:     {AnyOf: []rpcauth.Verb{rpcauth.KeysRead, rpcauth.KeysRotate}},
		secgossipv1connect.AgentServiceRevokeProcedure:       {AnyOf: []rpcauth.Verb{rpcauth.NodeEvict}, Mutates: true},

		secgossipv1connect.AgentServiceListRevocationsProcedure:   {AnyOf: []rpcauth.Verb{rpcauth.MembersRead, rpcauth.NodeEvict}},
		secgossipv1connect.AgentServiceStreamLogsProcedure:        {AnyOf: []rpcauth.Verb{rpcauth.Monitor}},
		secgossipv1connect.AgentServiceEstimateRoundTripProcedure: {AnyOf: []rpcauth.Verb{rpcauth.MembersRead}},

		secgossipv1connect.AgentServicePrepareEventProcedure: {AnyOf: []rpcauth.Verb{rpcauth.FireEvent}},
		secgossipv1connect.AgentServicePrepareQueryProcedure: {AnyOf: []rpcauth.Verb{rpcauth.AskQuery}},
		secgossipv1connect.AgentServiceAskQueryProcedure:     {AnyOf: []rpcauth.Verb{rpcauth.AskQuery}, Mutates: true},
		secgossipv1connect.AgentServiceRespondQueryProcedure: {AnyOf: []rpcauth.Verb{rpcauth.AnswerQuery}, Mutates: true},
		secgossipv1connect.AgentServiceJoinProcedure:         {AnyOf: []rpcauth.Verb{rpcauth.NodeJoin}, Mutates: true},
		secgossipv1connect.AgentServiceUpdateTagsProcedure:   {AnyOf: []rpcauth.Verb{rpcauth.NodeTags}, Mutates: true},
		secgossipv1connect.AgentServiceForceLeaveProcedure:   {AnyOf: []rpcauth.Verb{rpcauth.NodeLeave}, Mutates: true},
	}
}
