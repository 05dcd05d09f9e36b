<%@ Page Language="C#" EnableSessionState="True" %>
<%@ Import Namespace="System.Security.Cryptography" %>
<%@ Import Namespace="System.Text" %>
<script runat="server">
    // Which web server made this page, which session it was for, and how often that visitor has opened it. What the
    // compiler of every .NET Framework 4 understands.
    protected int Count;

    protected void Page_Load(object sender, EventArgs e)
    {
        Response.Cache.SetCacheability(HttpCacheability.NoCache);
        if (Request.QueryString["end"] != null)
        {
            Session.Abandon();
            Response.Redirect("Default.aspx", true);
        }
        Count = Session["count"] == null ? 1 : (int)Session["count"] + 1;
        Session["count"] = Count;
        int pause;
        if (int.TryParse(Request.QueryString["pause"], out pause) && pause > 0 && pause <= 5000)
        {
            System.Threading.Thread.Sleep(pause); // with the session locked, for those who want to see pages wait
        }
    }

    // A session id is a secret, so only some of its hash is shown.
    protected string Short()
    {
        using (SHA256 hash = SHA256.Create())
        {
            return BitConverter.ToString(hash.ComputeHash(Encoding.ASCII.GetBytes(Session.SessionID)), 0, 4).Replace("-", "").ToLowerInvariant();
        }
    }
</script>
<!doctype html>
<html lang="en">
<head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title><%: Environment.MachineName %></title>
    <style>body { font: 1.5rem system-ui, sans-serif; text-align: center; padding: 3rem; }</style>
</head>
<body>
    <p>This page came from <b id="node"><%: Environment.MachineName %></b>.</p>
    <p>You have opened it <b id="count"><%: Count %></b> times.</p>
    <p><small>session <span id="session"><%: Short() %></span></small></p>
    <p><a href="Default.aspx">again</a> &middot; <a href="Default.aspx?pause=2000">again, slowly</a> &middot; <a href="Default.aspx?end=1">end the session</a></p>
</body>
</html>
