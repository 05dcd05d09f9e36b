using System;
using System.Collections.Specialized;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Web;
using System.Web.SessionState;

// Mono's own mode="StateServer" speaks .NET remoting. This speaks the state protocol, call for call as the client in .NET
// Framework does (OutOfProcSessionStateStore), so that Mono's session module and page pipeline are a real client.
public class StateServer : SessionStateStoreProviderBase
{
    const string Application = "%2fLM%2fW3SVC%2f1%2fROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE%3d)%2f";
    int port;

    class Answer
    {
        public int Status;
        public readonly NameValueCollection Headers = new NameValueCollection(StringComparer.OrdinalIgnoreCase);
        public byte[] Body = new byte[0];

        public int Number(string header)
        {
            return Headers[header] == null ? 0 : int.Parse(Headers[header]);
        }
    }

    public override void Initialize(string name, NameValueCollection config)
    {
        port = int.Parse(Environment.GetEnvironmentVariable("STATE_SERVER_PORT"));
        base.Initialize(name, config);
    }

    Answer Ask(string method, string id, string headers, byte[] body)
    {
        using (TcpClient client = new TcpClient("127.0.0.1", port))
        {
            NetworkStream s = client.GetStream();
            s.ReadTimeout = s.WriteTimeout = 10000; // stateNetworkTimeout
            string head = method + " " + Application + id + " HTTP/1.1\r\nHost:127.0.0.1\r\n" + headers;
            if (body != null)
                head += "Content-Length:" + body.Length + "\r\n";
            byte[] bytes = Encoding.ASCII.GetBytes(head + "\r\n");
            s.Write(bytes, 0, bytes.Length);
            if (body != null)
                s.Write(body, 0, body.Length);
            Answer a = new Answer();
            a.Status = int.Parse(Line(s).Split(' ')[1]);
            for (string line = Line(s); line != ""; line = Line(s))
                a.Headers[line.Substring(0, line.IndexOf(':'))] = line.Substring(line.IndexOf(':') + 1).Trim();
            a.Body = new byte[a.Number("Content-Length")];
            for (int n = 0; n < a.Body.Length; )
            {
                int got = s.Read(a.Body, n, a.Body.Length - n);
                if (got == 0)
                    throw new HttpException("the state server broke off");
                n += got;
            }
            if (a.Status == 400)
                throw new HttpException("the state server did not understand");
            return a;
        }
    }

    static string Line(Stream s)
    {
        StringBuilder b = new StringBuilder();
        for (int c = s.ReadByte(); c != '\n'; c = s.ReadByte())
        {
            if (c < 0)
                throw new HttpException("the state server broke off");
            if (c != '\r')
                b.Append((char)c);
        }
        return b.ToString();
    }

    SessionStateStoreData Get(HttpContext context, string id, string headers, out bool locked, out TimeSpan age, out object cookie, out SessionStateActions actions)
    {
        Answer a = Ask("GET", id, headers, null);
        locked = a.Status == 423;
        age = TimeSpan.FromSeconds(a.Number("LockAge"));
        cookie = a.Number("LockCookie");
        actions = (SessionStateActions)a.Number("ActionFlags");
        if (a.Status != 200 || a.Body.Length == 0)
            return null;
        using (BinaryReader r = new BinaryReader(new MemoryStream(a.Body)))
        {
            int timeout = r.ReadInt32();
            bool items = r.ReadBoolean();
            r.ReadBoolean(); // static objects: there are none
            return new SessionStateStoreData(items ? SessionStateItemCollection.Deserialize(r) : new SessionStateItemCollection(),
                SessionStateUtility.GetSessionStaticObjects(context), timeout);
        }
    }

    static byte[] Serialize(SessionStateStoreData data)
    {
        MemoryStream m = new MemoryStream();
        BinaryWriter w = new BinaryWriter(m);
        bool items = data != null && data.Items != null && data.Items.Count > 0;
        w.Write(data == null ? 20 : data.Timeout);
        w.Write(items);
        w.Write(false);
        if (items)
            ((SessionStateItemCollection)data.Items).Serialize(w);
        w.Write((byte)0xff);
        w.Flush();
        return m.ToArray();
    }

    public override SessionStateStoreData GetItem(HttpContext c, string id, out bool locked, out TimeSpan age, out object cookie, out SessionStateActions actions)
    {
        return Get(c, id, "", out locked, out age, out cookie, out actions);
    }

    public override SessionStateStoreData GetItemExclusive(HttpContext c, string id, out bool locked, out TimeSpan age, out object cookie, out SessionStateActions actions)
    {
        return Get(c, id, "Exclusive:acquire\r\n", out locked, out age, out cookie, out actions);
    }

    public override void ReleaseItemExclusive(HttpContext c, string id, object cookie)
    {
        Ask("GET", id, "Exclusive:release\r\nLockCookie:" + cookie + "\r\n", null);
    }

    public override void SetAndReleaseItemExclusive(HttpContext c, string id, SessionStateStoreData item, object cookie, bool newItem)
    {
        Ask("PUT", id, "Timeout:" + item.Timeout + "\r\nLockCookie:" + (cookie ?? 0) + "\r\n", Serialize(item));
    }

    public override void RemoveItem(HttpContext c, string id, object cookie, SessionStateStoreData item)
    {
        Ask("DELETE", id, "LockCookie:" + (cookie ?? 0) + "\r\n", null);
    }

    public override void ResetItemTimeout(HttpContext c, string id)
    {
        Ask("HEAD", id, "", null);
    }

    public override void CreateUninitializedItem(HttpContext c, string id, int timeout)
    {
        Ask("PUT", id, "Timeout:" + timeout + "\r\nExtraFlags:1\r\n", Serialize(null));
    }

    public override SessionStateStoreData CreateNewStoreData(HttpContext c, int timeout)
    {
        return new SessionStateStoreData(new SessionStateItemCollection(), SessionStateUtility.GetSessionStaticObjects(c), timeout);
    }

    public override bool SetItemExpireCallback(SessionStateItemExpireCallback callback)
    {
        return false;
    }

    public override void InitializeRequest(HttpContext c) { }
    public override void EndRequest(HttpContext c) { }
    public override void Dispose() { }
}
